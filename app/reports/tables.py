"""The report as CSV and as JSON, in pieces."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from app import spreadsheets
from app.reports.rows import Photo
from app.reports.workbooks import COLUMNS, Totals, rows_of

BYTE_ORDER_MARK = "\ufeff"  # spreadsheets then read the file as UTF-8


def csv_pieces(photos: Iterable[Photo]) -> Iterator[bytes]:
    """The rows of the workbook; a text that a spreadsheet would run gets an apostrophe."""
    yield (BYTE_ORDER_MARK + _line(COLUMNS)).encode()
    for photo in photos:
        yield "".join(_line([_cell(value) for value in row]) for row in rows_of(photo)).encode()


def json_pieces(photos: Iterable[Photo]) -> Iterator[bytes]:
    """``{"images": [...], "summary": {...}}``; boxes are ``[left, top, width, height]`` in pixels, upright."""
    totals = Totals()
    yield b'{"images": ['
    for number, photo in enumerate(photos):
        totals.add(photo)
        yield (",\n" if number else "\n").encode() + json.dumps(_as_json(photo), ensure_ascii=False).encode()
    yield b'\n],\n"summary": ' + json.dumps(_summary(totals), ensure_ascii=False).encode() + b"}\n"


def _as_json(photo: Photo) -> dict[str, Any]:
    return {
        "image": photo.name,
        "number": photo.seq + 1,
        "file": photo.file or None,
        "status": photo.status,
        "error": photo.error or None,
        "width": photo.width,
        "height": photo.height,
        "camera": photo.shown_camera or None,
        "taken": photo.shown_time or None,
        "detections": photo.detections,
        "exif": photo.exif,
    }


def _summary(totals: Totals) -> dict[str, Any]:
    return {heading[0]: [dict(zip(heading, line, strict=True)) for line in lines] for heading, lines in totals.parts()}


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return spreadsheets.inert(value) if isinstance(value, str) else value


def _line(values: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()
