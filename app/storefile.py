"""A store master as it comes out of spreadsheets: CSV bytes in, stores and refused lines out. Nothing else is done.

Columns ``AreaCode``, ``StoreName`` and ``StoreID`` are found by header name, in any order, case and spacing; further
columns are ignored. Commas, semicolons, tabs or bars divide; UTF-8, UTF-16 with its mark, or cp1252 are read.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import BinaryIO, NamedTuple, cast

from app.errors import InvalidRequestError

COLUMNS = ("AreaCode", "StoreName", "StoreID")
DELIMITERS = ",;\t|"
# A quote that stays open past this many lines was never meant to span them; it must not swallow the stores below it.
MOST_LINES_A_ROW = 20
ID_MOST_BYTES = 64
AREA_MOST_CHARACTERS = 64
NAME_MOST_CHARACTERS = 255


class StoreRow(NamedTuple):
    line: int
    store_id: str
    area: str
    name: str


class Refusal(NamedTuple):
    line: int
    reason: str


def read(stream: BinaryIO) -> Iterator[StoreRow | Refusal]:
    """Read a store master line by line; only the ids seen are kept in memory.

    A store that stands in the file again is yielded again, after a refusal of its earlier line: the last one counts.
    Raises InvalidRequestError where the file is empty or its header lacks a column.
    """
    # Closed here, not when it is collected as garbage, by when the stream may be closed.
    with closing(_decoded(stream)) as text:
        lines = _Lines(text)
        header = _read_header(lines)
        line_of: dict[str, int] = {}
        for number, fields in _rows(lines, header.delimiter):
            found = _store(header, number, fields)
            if isinstance(found, StoreRow):
                earlier = line_of.get(found.store_id)
                if earlier is not None:
                    yield Refusal(earlier, f"store {found.store_id!r} stands again in line {number}, which counts")
                line_of[found.store_id] = number
            yield found


class _Lines:
    """Text lines with their ends, counted; some may be put back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._back: deque[str] = deque()
        self.number = 0

    def next(self) -> str | None:
        line = self._back.popleft() if self._back else next(self._lines, None)
        self.number += line is not None
        return line

    def put_back(self, lines: list[str]) -> None:
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)


def _decoded(stream: BinaryIO) -> Generator[str, None, None]:
    buffered = io.BufferedReader(cast(io.RawIOBase, stream))
    is_utf16 = buffered.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding, errors = ("utf-16", "replace") if is_utf16 else ("utf-8-sig", "cp1252_bytes")
    # newline="" ends lines at LF, CRLF and CR alike and keeps the ends, which belong to the text within quotes.
    text = io.TextIOWrapper(buffered, encoding=encoding, errors=errors, newline="")
    try:
        for line in text:
            yield line.replace("\0", "")
    finally:
        text.detach()
        buffered.detach()  # the stream is the caller's to close


def _as_cp1252(error: UnicodeError) -> tuple[str, int]:
    """Read the bytes that are no UTF-8 as cp1252, and the five that it does not define as latin-1."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    stray = error.object[error.start : error.end]
    try:
        return stray.decode("cp1252"), error.end
    except UnicodeDecodeError:
        return stray.decode("latin-1"), error.end


codecs.register_error("cp1252_bytes", _as_cp1252)


class _Header(NamedTuple):
    """What the header line tells: the delimiter, how many columns, and where the three that count stand."""

    delimiter: str
    columns: int
    area: int
    name: int
    store_id: int


def _read_header(lines: _Lines) -> _Header:
    line = lines.next()
    while line is not None and not line.strip("\ufeff \t\r\n"):
        line = lines.next()
    if line is None:
        raise InvalidRequestError("the store master is empty")
    wanted = [_plain(column) for column in COLUMNS]
    missing = list(COLUMNS)
    for delimiter in DELIMITERS:
        names = [_plain(name) for name in _parsed(line, delimiter, is_strict=False) or []]
        if set(wanted) <= set(names):
            area, name, store_id = map(names.index, wanted)
            return _Header(delimiter, len(names), area, name, store_id)
        missing = min(missing, [column for column in COLUMNS if _plain(column) not in names], key=len)
    raise InvalidRequestError(
        f"line {lines.number} of the store master must name its columns; it lacks {', '.join(missing)}"
    )


def _plain(column: str) -> str:
    return "".join(letter for letter in column.lower() if letter.isalnum())


def _rows(lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that hold anything, each with the number of its first line."""
    while (line := lines.next()) is not None:
        number = lines.number
        fields = _parsed(line, delimiter)
        if fields is None:
            # Stray quotes: what the line says when they are taken leniently, nothing if it says nothing.
            fields = _across_lines(line, lines, delimiter) or _parsed(line, delimiter, is_strict=False) or ["?"]
        if any(map(str.strip, fields)):
            yield number, fields


def _parsed(line: str, delimiter: str, *, is_strict: bool = True) -> list[str] | None:
    """The fields of a row, ``None`` where its quotes are open or out of place (strict) or it is no CSV at all."""
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=is_strict), [])
    except csv.Error:
        return None


def _across_lines(line: str, lines: _Lines, delimiter: str) -> list[str] | None:
    """The fields of a row that quotes carry over the following lines, which are put back where that fails."""
    further: list[str] = []
    while len(further) < MOST_LINES_A_ROW and (following := lines.next()) is not None:
        further.append(following)
        fields = _parsed(line + "".join(further), delimiter) if '"' in following else None
        if fields is not None:
            return fields
    lines.put_back(further)
    return None


def _store(header: _Header, line: int, fields: list[str]) -> StoreRow | Refusal:
    if len(fields) <= max(header.area, header.name, header.store_id):
        return Refusal(line, f"too few fields: {len(fields)} where the header has {header.columns}")
    # Past the header an unquoted delimiter has moved the fields; taking them would store a wrong id.
    if len(fields) > header.columns and any(map(str.strip, fields[header.columns :])):
        return Refusal(line, f"too many fields: {len(fields)} where the header has {header.columns}")
    row = StoreRow(line, fields[header.store_id].strip(), fields[header.area].strip(), fields[header.name].strip())
    reason = _misfit(row)
    return Refusal(line, reason) if reason else row


def _misfit(row: StoreRow) -> str | None:
    if not row.store_id:
        return "StoreID is empty"
    if len(row.store_id.encode()) > ID_MOST_BYTES:
        return f"StoreID is longer than {ID_MOST_BYTES} bytes"
    if len(row.area) > AREA_MOST_CHARACTERS:
        return f"AreaCode is longer than {AREA_MOST_CHARACTERS} characters"
    if len(row.name) > NAME_MOST_CHARACTERS:
        return f"StoreName is longer than {NAME_MOST_CHARACTERS} characters"
    return None
