"""A manifest as clients write it: a table of ids and URLs in bytes, rows out. Nothing else is done.

Tab-separated with the header ``id<TAB>url``, CSV with the same header, or JSON lines; each also packed with gzip. Which
it is, the content says and not the name. ``id`` and ``url`` are found by name, in any order and case; what further
columns hold comes along. UTF-8 with or without its mark, and the UTF-16 that Excel calls Unicode text, are read.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, cast

from app.errors import ManifestError, TooLargeError

GZIP = b"\x1f\x8b"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
DELIMITERS = "\t,;|"
ID_MOST_CHARACTERS = 255
LINE_MOST_CHARACTERS = 64 * 1024
MOST_EMPTY_LINES = 10_000  # 256 MB of them would take minutes
EXTRA_MOST_BYTES = 4096
EXTRA_MOST_LEVELS = 16  # MariaDB's JSON type ends at 32
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
SHORT = 40  # characters of a value that is shown


class Row(NamedTuple):
    """``line`` counts from 1. ``extra`` is what the further columns hold, by their names."""

    line: int
    id: str
    url: str
    extra: dict[str, Any]


def read(stream: BinaryIO, *, most_bytes: int) -> Iterator[Row]:
    """The rows of a manifest, one after the other; only the ids seen are kept in memory.

    Raises ManifestError, which names the line, where the header lacks a column, a row is not whole or its id stands
    there already; TooLargeError where it is longer than ``most_bytes`` when it is unpacked.
    """
    seen: dict[str, int] = {}
    for row in _rows(_lines(stream, most_bytes)):
        if not 0 < len(row.id) <= ID_MOST_CHARACTERS:
            raise ManifestError(row.line, f"id: must have 1 to {ID_MOST_CHARACTERS} characters")
        if row.id in seen:
            raise ManifestError(row.line, f"id: {row.id[:SHORT]!r} stands in line {seen[row.id]} already")
        if row.extra:
            _expect_bounded(row)
        seen[row.id] = row.line
        yield row


def _expect_bounded(row: Row) -> None:
    text = json.dumps(row.extra, ensure_ascii=False)
    if "\\u0000" in text or UNSTORABLE.search(text):
        raise ManifestError(row.line, "holds a character that cannot be stored")
    if len(text.encode()) > EXTRA_MOST_BYTES or _levels(row.extra) > EXTRA_MOST_LEVELS:
        raise ManifestError(row.line, f"the further columns hold more than {EXTRA_MOST_BYTES} bytes or are too deep")


def _levels(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_levels, inner), default=0)


Line = tuple[int, str]


def _lines(stream: BinaryIO, most_bytes: int) -> Iterator[Line]:
    """The lines that are not empty, with their numbers, without their ends."""
    with _unpacking(1):
        text = _decoded(stream, most_bytes)
    empty = 0
    for number in itertools.count(1):
        with _unpacking(number):
            line = text.readline(LINE_MOST_CHARACTERS)
        if not line:
            return
        if len(line) == LINE_MOST_CHARACTERS:
            raise ManifestError(number, f"is longer than {LINE_MOST_CHARACTERS} characters")
        if UNSTORABLE.search(line):
            raise ManifestError(number, "is not text in UTF-8")
        if line.strip():
            yield number, line.rstrip("\r\n")
        elif (empty := empty + 1) > MOST_EMPTY_LINES:
            raise ManifestError(number, f"there are more than {MOST_EMPTY_LINES} empty lines")


@contextmanager
def _unpacking(number: int) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error):
        raise ManifestError(number, "the file is packed and cannot be unpacked") from None


def _decoded(stream: BinaryIO, most_bytes: int) -> io.TextIOWrapper:
    packed = io.BufferedReader(cast(io.RawIOBase, stream))
    is_packed = packed.peek(2)[:2] == GZIP
    plain = io.BufferedReader(_Bounded(gzip.GzipFile(fileobj=packed) if is_packed else packed, most_bytes))
    if plain.peek(2)[:2] in UTF_16:
        return io.TextIOWrapper(plain, "utf-16", "replace", newline=None)
    # A byte that is no UTF-8 becomes half a character, by which its line is found.
    return io.TextIOWrapper(plain, "utf-8-sig", "surrogateescape", newline=None)


class _Bounded(io.RawIOBase):
    """So many bytes of another stream; asked for more it raises TooLargeError."""

    def __init__(self, stream: Any, most_bytes: int) -> None:
        self._stream = stream
        self._most = self._left = most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(min(len(buffer), self._left + 1))
        if len(piece) > self._left:
            raise TooLargeError(f"the manifest is longer than {self._most} bytes")
        self._left -= len(piece)
        buffer[: len(piece)] = piece
        return len(piece)


def _rows(lines: Iterator[Line]) -> Iterator[Row]:
    number, first = next(lines, (1, ""))
    if first.lstrip().startswith("{"):
        yield _row_of_object(number, first)
        yield from (_row_of_object(*line) for line in lines)
    else:
        header = _header(number, first)
        yield from (header.row(*line) for line in lines)


@dataclass(frozen=True, slots=True)
class _Header:
    delimiter: str
    columns: int
    id_place: int
    url_place: int
    further: dict[str, int]  # places by name

    def row(self, number: int, line: str) -> Row:
        cells = _cells(number, line, self.delimiter)
        if len(cells) != self.columns:
            raise ManifestError(number, f"has {len(cells)} columns, the header {self.columns}")
        extra = {name: cells[place] for name, place in self.further.items()}
        return Row(number, cells[self.id_place].strip(), cells[self.url_place].strip(), extra)


def _header(number: int, line: str) -> _Header:
    for delimiter in DELIMITERS:
        names = [name.strip() for name in _cells(number, line, delimiter)]
        places = {name.casefold(): place for place, name in enumerate(names)}
        if "id" not in places or "url" not in places:
            continue
        if len(places) < len(names):
            raise ManifestError(number, "the header names a column twice")
        further = {name: place for place, name in enumerate(names) if name.casefold() not in ("id", "url")}
        return _Header(delimiter, len(names), places["id"], places["url"], further)
    raise ManifestError(number, "must be a header with the columns id and url")


def _cells(number: int, line: str, delimiter: str) -> list[str]:
    try:
        # A line at a time: a quote that stays open must not swallow the rows below it.
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ManifestError(number, str(error)) from None


def _row_of_object(number: int, line: str) -> Row:
    try:
        found = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ManifestError(number, "is not JSON") from None
    if not isinstance(found, dict) or "id" not in found or "url" not in found:
        raise ManifestError(number, "must be an object with id and url")
    key, url = found.pop("id"), found.pop("url")
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise ManifestError(number, "id: must be a text or a whole number")
    if not isinstance(url, str):
        raise ManifestError(number, "url: must be a text")
    if UNSTORABLE.search(f"{key}{url}"):
        raise ManifestError(number, "holds a character that cannot be stored")
    return Row(number, str(key).strip(), url.strip(), found)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
