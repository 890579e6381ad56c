"""The report as a workbook: a sheet of detections, a row each, and a summary; written row by row in flat memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.url import Url
from xlsxwriter.worksheet import Worksheet

from app.processors import exif
from app.reports.rows import Photo

# Excel allows 65,530 links a sheet, and every row has one.
ROWS_A_SHEET = 65_000
MOST_CELL_CHARACTERS = 32_767
MOST_SUMMED = 10_000  # lines of one part of the summary

DETECTION_COLUMNS = ("image", "number", "status", "label", "score", "left", "top", "width", "height")
IMAGE_COLUMNS = ("image_width", "image_height", "camera", "taken", "error")
EXIF_COLUMNS = tuple(f"exif_{name}" for name in exif.FIELDS)
GPS_COLUMNS = tuple(f"gps_{name}" for name in exif.GPS_FIELDS)
COLUMNS = (*DETECTION_COLUMNS, *IMAGE_COLUMNS, *EXIF_COLUMNS, *GPS_COLUMNS)
WIDTHS = {"image": 34, "label": 18, "camera": 20, "taken": 22, "error": 40}

# Text stays text, whatever it looks like: nothing a client writes is run or followed.
OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}


class _Beside(Url):
    """A file below the workbook's folder; by the slashes of a URI, since only Excel follows backslashes."""

    def _target(self) -> str:
        return str(super()._target()).replace("\\", "/")


def rows_of(photo: Photo) -> list[list[Any]]:
    """The photo's rows in the order of ``COLUMNS``: one a detection, one without where there is none."""
    gps = photo.exif.get("gps", {})
    beside = [
        *(photo.width, photo.height, photo.shown_camera, photo.shown_time, photo.error),
        *(photo.exif.get(name) for name in exif.FIELDS),
        *(gps.get(name) for name in exif.GPS_FIELDS),
    ]
    start = [photo.name, photo.seq + 1, photo.status]
    if not photo.detections:
        return [[*start, *[None] * 6, *beside]]
    return [[*start, found["label"], found["score"], *found["box"], *beside] for found in photo.detections]


class Workbook:
    """Photos are added in order; the file is there after ``close``."""

    def __init__(self, path: Path, title: str) -> None:
        self._book = xlsxwriter.Workbook(str(path), OPTIONS | {"tmpdir": str(path.parent)})
        self._book.set_properties({"title": title[:255]})
        self._bold = self._book.add_format({"bold": True, "bottom": 1})
        self._link = self._book.get_default_url_format()
        self._summary = self._book.add_worksheet("Summary")
        self._sheets = 0
        self._row = 0
        self._sheet = self._add_sheet()
        self.totals = Totals()

    def add(self, photo: Photo) -> None:
        self.totals.add(photo)
        for row in rows_of(photo):
            if self._row > ROWS_A_SHEET:
                self._sheet = self._add_sheet()
            self._write(row, photo.file)
            self._row += 1

    def _write(self, row: Sequence[Any], file: str) -> None:
        first, *others = row
        if file:
            link = _Beside(f"external:{file}")
            link.text = _cell(first) or file
            self._sheet.write_url(self._row, 0, link, self._link)
        else:
            self._sheet.write_string(self._row, 0, _cell(first))
        for column, value in enumerate(others, 1):
            _write_cell(self._sheet, self._row, column, value)

    def _add_sheet(self) -> Worksheet:
        self._sheets += 1
        sheet = self._book.add_worksheet("Detections" if self._sheets == 1 else f"Detections {self._sheets}")
        sheet.freeze_panes(1, 1)
        for column, name in enumerate(COLUMNS):
            sheet.set_column(column, column, WIDTHS.get(name, 13))
        _write_row(sheet, 0, COLUMNS, self._bold)
        self._row = 1
        return sheet

    def close(self) -> None:
        """Write the summary, which stands first and is known last, and the file."""
        self._summary.set_column(0, 0, 34)
        self._summary.set_column(1, 3, 16)
        row = 0
        for heading, lines in self.totals.parts():
            _write_row(self._summary, row, heading, self._bold)
            for number, line in enumerate(lines, row + 1):
                _write_row(self._summary, number, line)
            row += len(lines) + 2
        self._book.close()


class Totals:
    """What the summary counts."""

    def __init__(self) -> None:
        self.photos: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()  # detections
        self.photos_by_label: Counter[str] = Counter()
        self.cameras: Counter[tuple[str, str]] = Counter()  # camera and day: photos
        self.found_by_camera: Counter[tuple[str, str]] = Counter()  # ... detections

    def add(self, photo: Photo) -> None:
        self.photos[photo.status] += 1
        labels = [found["label"] for found in photo.detections]
        self.labels.update(labels)
        self.photos_by_label.update(set(labels))
        place = (photo.shown_camera or "unknown", photo.shown_time[:10] or "unknown")
        # A camera for each photo would be a list of photos: past a bound they are counted together.
        if place not in self.cameras and len(self.cameras) >= MOST_SUMMED:
            place = ("others", "")
        self.cameras[place] += 1
        self.found_by_camera[place] += len(labels)

    def parts(self) -> list[tuple[Sequence[str], list[Sequence[Any]]]]:
        """Each part of the summary: its heading and its lines."""
        statuses = ("found", "nothing found", "failed")
        by_state: list[Sequence[Any]] = [("all", sum(self.photos.values()))]
        by_state += [(status, self.photos[status]) for status in statuses]
        by_label: list[Sequence[Any]] = [
            (label, count, self.photos_by_label[label]) for label, count in _sorted(self.labels)
        ]
        by_camera: list[Sequence[Any]] = [
            (*place, count, self.found_by_camera[place]) for place, count in sorted(self.cameras.items())
        ]
        return [
            (("photos", "count"), by_state),
            (("label", "detections", "photos"), by_label),
            (("camera", "day", "photos", "detections"), by_camera),
        ]


def _sorted(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))


def _write_row(sheet: Worksheet, row: int, values: Sequence[Any], format_: Format | None = None) -> None:
    for column, value in enumerate(values):
        _write_cell(sheet, row, column, value, format_)


def _write_cell(sheet: Worksheet, row: int, column: int, value: Any, format_: Format | None = None) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value, format_)
    elif isinstance(value, int | float):
        sheet.write_number(row, column, value, format_)
    else:
        sheet.write_string(row, column, _cell(str(value)), format_)


def _cell(text: str) -> str:
    return text[:MOST_CELL_CHARACTERS]
