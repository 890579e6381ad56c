"""A workbook of plain rows, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.later import Later

if TYPE_CHECKING:
    import xlsxwriter
else:
    xlsxwriter = Later("xlsxwriter")

Row = Sequence[Any]
# What a sheet of Excel's can hold, the titles included.
ROWS_A_SHEET = 1_048_576


def write(path: Path, titles: Sequence[str], rows: Iterable[Row]) -> None:
    """Make the file; beside it, rows lie until it is whole. Its first sheet has its name.

    Rows that do not fit on a sheet go on on the next one, under the same titles. Cells stay what they are: no text
    becomes a formula, a link or a number.
    """
    name = path.stem
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(path, options | {"tmpdir": str(path.parent)}) as book:
        bold = book.add_format({"bold": True})
        sheet: Any = None
        line = sheets = 0
        for row in rows:
            if sheet is None or line == ROWS_A_SHEET:
                sheets += 1
                sheet, line = _sheet(book, name if sheets == 1 else f"{name} {sheets}", titles, bold), 1
            sheet.write_row(line, 0, row)
            line += 1
        if sheet is None:
            _sheet(book, name, titles, bold)


def _sheet(book: xlsxwriter.Workbook, name: str, titles: Sequence[str], bold: Any) -> Any:
    sheet = book.add_worksheet(name)
    sheet.freeze_panes(1, 0)
    sheet.write_row(0, 0, titles, bold)
    return sheet
