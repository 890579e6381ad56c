"""The files of a report: annotated photos, workbook, CSV and JSON in one zip.

What is drawn is put into storage photo by photo, so that a builder that dies is followed by one that goes on from
there. Memory stays flat: a page of rows and one photo at a time, all files written in pieces.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.domain import photos, scratch, transactions
from app.domain.files import StoredFile
from app.domain.leases import Lease
from app.errors import ImageError, StorageError, StoredFileMissingError
from app.extensions import settings, storage
from app.later import Later
from app.models import Image, ImageState, Report, ReportState, Upload
from app.processors import DecodeLimits
from app.reports import archives
from app.reports.archives import Entry
from app.reports.rows import Photo, file_name
from app.sql import db_now
from app.storage import new_key

if TYPE_CHECKING:
    from app.reports import drawing, fonts, tables, workbooks
else:
    _parts = ("drawing", "fonts", "tables", "workbooks")
    drawing, fonts, tables, workbooks = (Later(f"app.reports.{part}") for part in _parts)

log = structlog.get_logger()

FOLDER = "reports"
PHOTOS_A_PAGE = 50
READ_BYTES = 256 * 1024
TYPES = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "zip": "application/zip",
}


def file(report: Report, ending: str) -> StoredFile:
    """One of the files of a report that is built. Raises StoredFileMissingError, StorageError."""
    stat = storage.stat(str(getattr(report, f"{ending}_storage_key")))
    assert report.built_at is not None
    return StoredFile(
        key=stat.key,
        bytes=stat.bytes,
        # Not of its bytes, which would have to be read: a report that is built anew has another moment.
        sha256=f"{report.folder}-{report.built_at:%Y%m%d%H%M%S%f}-{ending}".replace("/", "-"),
        content_type=TYPES[ending],
        stored_at=report.built_at,
        name=f"{report.name}.{ending}",
    )


class _StoppedError(Exception):
    """The worker is asked to end."""


class Builder:
    """Builds the report that is leased; ``build`` gives it back where the worker is to end."""

    def __init__(self, lease: Lease, is_stopping: Callable[[], bool]) -> None:
        self._lease = lease
        self._report: Report = lease.row
        self._is_stopping = is_stopping
        self._limits = DecodeLimits(settings.image_formats, settings.IMAGE_MAX_PIXELS)
        self._fonts = fonts.Fonts.preferring(settings.DETECTOR_LABEL_FONT)
        self._renew_at = 0.0
        self._folder = self._report.folder or new_key(FOLDER)

    def build(self) -> None:
        try:
            self._renew(folder=self._folder, images_done=self._report.images_done)
            self._draw()
            with scratch.folder() as folder:
                self._finish(self._assemble(folder))
        except _StoppedError:
            self._lease.give_back(delay_seconds=0, attempts=0)

    def _draw(self) -> None:
        """Put the photos with boxes into storage, from where the last builder got to."""
        for page in self._pages(self._report.images_done - 1):
            for image in page:
                if found := photos.detections(image):
                    self._draw_one(image, found)
            self._renew(images_done=page[-1].seq + 1, attempts=0)

    def _draw_one(self, image: Image, found: list[dict[str, Any]]) -> None:
        self._keep_going()
        try:
            drawn = drawing.annotated(storage.read(str(image.storage_key)), found, self._limits, self._fonts)
        except (ImageError, StoredFileMissingError) as error:
            if isinstance(error, StorageError):
                raise
            log.warning("photo not drawn", job_id=image.job_id, seq=image.seq, reason=str(error))
            return
        storage.put(self._key_of(image.seq), drawn, content_type="image/jpeg")

    def _assemble(self, folder: Path) -> dict[str, Any]:
        """Write all files; returns the columns that name them."""
        name = self._report.name
        workbook = folder / "report.xlsx"
        self._write_workbook(workbook)
        keys = {ending: f"{self._folder}/report.{ending}" for ending in TYPES}
        storage.put(keys["xlsx"], _pieces(workbook), content_type=TYPES["xlsx"])
        written = {
            "csv": self._put(folder, keys["csv"], tables.csv_pieces(self._photos()), "csv"),
            "json": self._put(folder, keys["json"], tables.json_pieces(self._photos()), "json"),
        }
        entries = [
            Entry(f"{name}.xlsx", _pieces(workbook), workbook.stat().st_size),
            *(Entry(f"{name}.{end}", storage.stream(keys[end]), length) for end, length in written.items()),
        ]
        length = self._put(folder, keys["zip"], archives.pieces(self._entries(entries)), "zip")
        return {f"{ending}_storage_key": key for ending, key in keys.items()} | {"zip_bytes": length}

    def _put(self, folder: Path, key: str, pieces: Iterable[bytes], ending: str) -> int:
        """Write a file whose pieces are read from storage and database as they are made; returns its length."""
        if storage.local_path(key) is None:
            # A bucket takes large files in parts, on a thread of its own, from where nothing else can be read.
            made = folder / f"made.{ending}"
            with made.open("wb") as file:
                file.writelines(pieces)
            pieces = _pieces(made)
        return storage.put(key, pieces, content_type=TYPES[ending]).bytes

    def _write_workbook(self, path: Path) -> None:
        book = workbooks.Workbook(path, self._report.name)
        for photo in self._photos():
            book.add(photo)
        book.close()

    def _entries(self, tables_: list[Entry]) -> Iterator[Entry]:
        yield from tables_
        for page in self._pages():
            for image in page:
                if photo_file := self._file_of(image):
                    self._keep_going()
                    key = self._key_of(image.seq) if photos.is_drawn(image) else str(image.storage_key)
                    body = self._read(key)
                    if body is not None:
                        yield Entry(photo_file, [body], len(body))

    def _read(self, key: str) -> bytes | None:
        try:
            return storage.read(key)
        except StoredFileMissingError:  # it could not be drawn, or somebody removed it
            return None

    def _finish(self, values: dict[str, Any]) -> None:
        def work(session: Session) -> None:
            done = {
                "state": ReportState.DONE,
                "built_at": db_now(),
                "due_at": None,
                "attempts": 0,
                "error_message": None,
            }
            self._lease.write(session, **done, **values)
            # Whoever left an address is told.
            session.execute(
                update(Upload)
                .where(Upload.job_id == self._report.job_id, Upload.email.is_not(None), Upload.mailed_at.is_(None))
                .values(due_at=db_now(), attempts=0)
                .execution_options(synchronize_session=False)
            )

        transactions.run(work)
        for page in self._pages():
            storage.delete([self._key_of(image.seq) for image in page if photos.is_drawn(image)])
        log.info("report built", job_id=self._report.job_id, bytes=values["zip_bytes"])

    def _photos(self) -> Iterator[Photo]:
        for page in self._pages():
            for image in page:
                self._keep_going()
                yield photos.as_photo(image, self._file_of(image))

    def _file_of(self, image: Image) -> str:
        """The photo's path in the archive; "" where it does not come into it."""
        if image.storage_key is None or image.state is not ImageState.DONE:
            return ""
        suffix = ".jpg" if photos.is_drawn(image) else f".{str(image.storage_key).rpartition('.')[2]}"
        return file_name(image.seq, image.client_ref or "", suffix)

    def _key_of(self, seq: int) -> str:
        return f"{self._folder}/{seq}.jpg"

    def _pages(self, after: int = -1) -> Iterator[list[Image]]:
        """The images behind ``after`` in their order, page by page."""
        query = select(Image).where(Image.job_id == self._report.job_id).order_by(Image.seq).limit(PHOTOS_A_PAGE)
        while True:
            this = query.where(Image.seq > after)
            page = list(transactions.read(lambda session: session.scalars(this).all()))  # noqa: B023
            if not page:
                return
            yield page
            after = page[-1].seq

    def _keep_going(self) -> None:
        """Renew the lease when it is time to. Raises LeaseLostError, or _StoppedError where the worker is to end."""
        if self._is_stopping():
            raise _StoppedError
        if time.monotonic() >= self._renew_at:
            self._renew()

    def _renew(self, **values: Any) -> None:
        self._lease.renew(**values)
        self._renew_at = time.monotonic() + settings.LEASE_SECONDS / 3


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            yield piece
