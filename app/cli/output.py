"""Rows on their way out: as a table for people, as JSON, or as CSV; each written as it comes."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import click
from rich.cells import cell_len, chop_cells

from app import spreadsheets

Row = Mapping[str, Any]

# What moves the cursor, colours, rings or turns the reading direction, and halves of characters.
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
LEAST_FLEXIBLE_WIDTH = 30


class Column(NamedTuple):
    """A column: ``value`` is the name of a row's field, or makes the cell from the row.

    In a table it is ``width`` wide at least; ``width`` 0 takes what the terminal has left, and is cut there unless it
    is the last.
    """

    title: str
    value: str | Callable[[Row], object]
    width: int = 0

    def cell(self, row: Row) -> object:
        return row.get(self.value) if isinstance(self.value, str) else self.value(row)


def with_forms(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--json`` and ``--csv``, which arrive as ``form``; it is None where a table is wanted."""
    command = click.option("--csv", "form", flag_value="csv", help="Print CSV, safe to open in a spreadsheet.")(command)
    return click.option("--json", "form", flag_value="json", help="Print JSON.")(command)


def write(rows: Iterable[Row], form: str | None, *, table: Sequence[Column], cells: Sequence[Column]) -> None:
    """Print rows as they come: ``table`` for people, ``cells`` for CSV; JSON has the rows whole."""
    rows = iter(rows)
    # The first page is asked for before the header is printed, which would stand alone where the service refuses.
    rows = chain(list(islice(rows, 1)), rows)
    if form == "json":
        _write_json(rows)
    elif form == "csv":
        _write_csv(rows, cells)
    else:
        _write_table(rows, table)


def escaped(text: str) -> str:
    r"""Text that can do nothing to a terminal; control characters as ``\u001b``, which JSON reads back."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def json_text(value: object) -> str:
    return escaped(json.dumps(value, ensure_ascii=False))


def _write_json(rows: Iterable[Row]) -> None:
    separator = "["
    for row in rows:
        click.echo(separator + json_text(row), nl=False)
        separator = ",\n "
    click.echo("]" if separator != "[" else "[]")


def _write_csv(rows: Iterable[Row], columns: Sequence[Column]) -> None:
    # A file gets the data as it is; on a terminal its control characters would act.
    shown = escaped if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([column.title for column in columns])
    for row in rows:
        writer.writerow([_inert(column.cell(row), shown) for column in columns])


def _inert(cell: object, shown: Callable[[str], str]) -> object:
    if not isinstance(cell, str):
        return cell
    return shown(spreadsheets.inert(cell))


def _write_table(rows: Iterable[Row], columns: Sequence[Column]) -> None:
    """Aligned by widths that are known beforehand, so that nothing waits for the last row."""
    flexible = _flexible_width(columns)
    click.echo(_line([column.title.upper() for column in columns], columns, flexible))
    for row in rows:
        click.echo(_line([_text(column.cell(row)) for column in columns], columns, flexible))


def _flexible_width(columns: Sequence[Column]) -> int | None:
    """The width of the columns without one, ``None`` where nothing is to be cut: into a file or a pipe."""
    if not sys.stdout.isatty():
        return None
    left = shutil.get_terminal_size().columns - sum(column.width + 2 for column in columns)
    return max(LEAST_FLEXIBLE_WIDTH, left // max(1, sum(not column.width for column in columns)))


def _line(cells: Sequence[str], columns: Sequence[Column], flexible: int | None) -> str:
    fitted = []
    for cell, column in zip(cells[:-1], columns[:-1], strict=True):
        text = cell if column.width or flexible is None else _shortened(cell, flexible)
        fitted.append(text + " " * ((column.width or flexible or LEAST_FLEXIBLE_WIDTH) - cell_len(text)))
    return "  ".join([*fitted, cells[-1]]).rstrip()


def _shortened(text: str, width: int) -> str:
    """Cut in the middle: of an address the host and the file's name tell most."""
    if cell_len(text) <= width:
        return text
    end = chop_cells(text[::-1], width // 2)[0][::-1]
    return chop_cells(text, width - 1 - cell_len(end))[0] + "…" + end


def _text(cell: object) -> str:
    return "" if cell is None else escaped(str(cell))
