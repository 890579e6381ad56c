"""Reports of jobs: annotated photos, workbook, CSV and JSON in one zip, built by a worker once the job has ended.

What is drawn is put into storage photo by photo, so that a builder that dies is followed by one that goes on from
there. Memory stays flat: a page of rows and one photo at a time, all files written in pieces.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from app import queues
from app.domain import jobs, leases, scratch, transactions
from app.domain.files import StoredFile
from app.domain.leases import Lease
from app.errors import ConflictError, ImageError, NotFoundError, StorageError, StoredFileMissingError
from app.extensions import settings, storage
from app.later import Later
from app.models import Image, ImageState, Job, JobState, Report, ReportState, Upload
from app.processors import DecodeLimits, detector, exif
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
WAITING = "waiting for the job"
BUILDING = "building the report"
PROCESSORS = (detector.NAME, exif.NAME)  # what a report shows
PHOTOS_A_PAGE = 50
MOST_ATTEMPTS = 5
RETRY_SECONDS = 30.0
READ_BYTES = 256 * 1024
TYPES = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "zip": "application/zip",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a report is; ``images`` are all of its job's."""

    report: Report
    images: int

    @property
    def stage(self) -> str:
        """In words that clients may compare."""
        states = {ReportState.WAITING: WAITING, ReportState.DONE: "ready", ReportState.FAILED: "failed"}
        return states.get(self.report.state, BUILDING)

    @property
    def is_ready(self) -> bool:
        return self.report.state is ReportState.DONE

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more, unless the job is tried again."""
        return self.report.state in (ReportState.DONE, ReportState.FAILED)


def can_show(job: Job) -> bool:
    """Whether there is anything to report of the job: what the detector found."""
    return detector.NAME in (job.processors or ())


def ask(job_id: int) -> Standing:
    """Have a report of a job of the caller's built, or one that failed built anew; a second call changes nothing.

    Raises NotFoundError, and ConflictError where the job did not ask for the detector.
    """

    def work(session: Session) -> None:
        job = jobs.load(session, job_id, is_locked=True)
        if not can_show(job):
            raise ConflictError(f"the job did not ask for the processor {detector.NAME}: there is nothing to report")
        plan(session, job_id, f"job-{job_id}")
        again = {"state": ReportState.WAITING, "error_message": None, "attempts": 0}
        has_failed = (Report.job_id == job_id) & (Report.state == ReportState.FAILED)
        session.execute(update(Report).where(has_failed).values(**again))

    transactions.run(work)
    wake()
    queues.ring_builder()
    return standing(job_id)


def standing(job_id: int) -> Standing:
    """How far the report of a job of the caller's is. Raises NotFoundError."""

    def work(session: Session) -> Standing:
        job = jobs.load(session, job_id)
        report = session.get(Report, job_id)
        if report is None:
            raise NotFoundError("no report of this job was asked for")
        return Standing(report, job.images_total)

    return transactions.read(work)


def get(job_id: int) -> Report:
    """The report of a job of the caller's. Raises NotFoundError."""
    return standing(job_id).report


def find(job: Job) -> Standing | None:
    """How far the report of a job that the caller sees is, where one was asked for."""
    report = transactions.read(lambda session: session.get(Report, job.id)) if can_show(job) else None
    return Standing(report, job.images_total) if report else None


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


def plan(session: Session, job_id: int, name: str) -> None:
    """Have a report built once the job has ended; no commit. A second call changes nothing."""
    if session.get(Report, job_id) is None:
        session.add(Report(job_id=job_id, name=name, state=ReportState.WAITING, images_done=0, claim=0, attempts=0))
        session.flush()


def wake() -> int:
    """Make reports due whose jobs have ended, or ended again since; returns how many. A second call is harmless."""
    return transactions.run(_wake)


def _wake(session: Session) -> int:
    has_changed = or_(
        Report.state == ReportState.WAITING,
        and_(Report.state == ReportState.DONE, Job.finished_at > Report.built_at),
    )
    ended = select(Report.job_id).join(Job, Job.id == Report.job_id).where(has_changed, Job.state != JobState.ONGOING)
    ready = session.scalars(ended.limit(PHOTOS_A_PAGE)).all()
    if not ready:
        return 0
    values = {"state": ReportState.BUILDING, "due_at": db_now(), "attempts": 0, "images_done": 0}
    session.execute(
        update(Report)
        .where(Report.job_id.in_(ready), Report.state.in_((ReportState.WAITING, ReportState.DONE)))
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    return len(ready)


def build_next(is_stopping: Callable[[], bool]) -> bool:
    """Build the report that has been due for longest; False where none is.

    One that is interrupted is left to the next builder, and so is one whose storage or database is away for the moment.
    """
    lease = leases.claim(Report)
    if lease is None:
        return False
    try:
        if lease.row.attempts > MOST_ATTEMPTS:
            _fail(lease, "It could not be built: each worker that began with it died.")
        else:
            _Builder(lease, is_stopping).build()
    except leases.LeaseLostError:
        log.warning("report left", job_id=lease.row.job_id, reason="another worker builds it")
    except (StorageError, StoredFileMissingError) as error:
        _put_off(lease, str(getattr(error, "message", error)))
    return True


def _put_off(lease: Lease, reason: str) -> None:
    log.warning("report put off", job_id=lease.row.job_id, reason=reason)
    with suppress(leases.LeaseLostError):
        if lease.row.attempts >= MOST_ATTEMPTS:
            _fail(lease, f"It could not be built: {reason}")
        else:
            lease.give_back(delay_seconds=RETRY_SECONDS * lease.row.attempts)


def _fail(lease: Lease, reason: str) -> None:
    values = {"state": ReportState.FAILED, "due_at": None, "error_message": reason[:300]}
    transactions.run(lambda session: lease.write(session, **values))


class _StoppedError(Exception):
    """The worker is asked to end."""


class _Builder:
    """Builds one report."""

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
                if found := _detections(image):
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
                    key = self._key_of(image.seq) if _is_drawn(image) else str(image.storage_key)
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
            storage.delete([self._key_of(image.seq) for image in page if _is_drawn(image)])
        log.info("report built", job_id=self._report.job_id, bytes=values["zip_bytes"])

    def _photos(self) -> Iterator[Photo]:
        for page in self._pages():
            for image in page:
                self._keep_going()
                yield as_photo(image, self._file_of(image))

    def _file_of(self, image: Image) -> str:
        """The photo's path in the archive; "" where it does not come into it."""
        if image.storage_key is None or image.state is not ImageState.DONE:
            return ""
        suffix = ".jpg" if _is_drawn(image) else f".{str(image.storage_key).rpartition('.')[2]}"
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


def as_photo(image: Image, file: str = "") -> Photo:
    """What is known of an image, as reports and pages show it; ``file`` is its path in the archive."""
    entries = image.results or {}
    failed = [entry["error"] for name in (detector.NAME,) if "error" in (entry := entries.get(name, {}))]
    error = f"{image.error_code}: {image.error_message}" if image.error_code else ""
    if failed and not error:
        error = f"{failed[0]['code']}: {failed[0]['message']}"
    found = (entries.get(detector.NAME) or {}).get("result") or {}
    return Photo(
        seq=image.seq,
        name=image.client_ref or image.url or f"image {image.seq + 1}",
        file=file,
        error=error,
        width=found.get("width", image.width),
        height=found.get("height", image.height),
        camera=image.camera_id or "",
        taken_at=image.captured_as_sent or "",
        detections=_detections(image),
        exif=(entries.get(exif.NAME) or {}).get("result") or {},
    )


def _detections(image: Image) -> list[dict[str, Any]]:
    entry = (image.results or {}).get(detector.NAME) or {}
    found: list[dict[str, Any]] = (entry.get("result") or {}).get("detections", [])
    return found


def _is_drawn(image: Image) -> bool:
    return bool(_detections(image)) and image.storage_key is not None


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            yield piece
