"""Submissions of the upload page: files are collected, handed in, opened by a worker, and become a job.

A submission's id is random, and whoever is let in and owns it finds its results by that alone; none is ever listed.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import structlog
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from app import archives, mails, queues
from app.archives import Archive, ArchiveLimits, Member
from app.domain import access, jobs, leases, reports, scratch, transactions
from app.domain.idempotency import Idempotency
from app.domain.jobs import NewImage, NewJob
from app.domain.leases import Lease
from app.errors import (
    ArchiveError,
    ConflictError,
    DecodeError,
    InvalidRequestError,
    NotFoundError,
    QueueFullError,
    StorageError,
    StoredFileMissingError,
    TooLargeError,
)
from app.extensions import settings, storage
from app.models import (
    Image,
    ImageState,
    Job,
    JobSource,
    JobState,
    Report,
    ReportState,
    Upload,
    UploadFile,
    UploadState,
)
from app.processors import DecodeLimits, ImageFile
from app.processors.formats import FORMATS
from app.reports.rows import Photo
from app.sql import db_now
from app.storage import Stored, new_key

log = structlog.get_logger()

FOLDER = "submissions"
MOST_ATTEMPTS = 5
RETRY_SECONDS = 15.0
ENTRIES_A_WRITE = 50
ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
BUILDING = "building the report"
LEAST_TO_TELL_FROM = 5
LEAST_SPREAD = 0.15
PHOTOS_A_PAGE = 24
MOST_SHOWN_FILES = 200
COLLECTING_SECONDS = 2 * 86_400.0  # nobody's page stays open longer
REFUSED_SECONDS = 7 * 86_400.0
FORGOTTEN_AT_ONCE = 50
CONTENT_TYPES = {kind.suffix: kind.content_type for kind in FORMATS.values()}
NOTED = ("name", "storage_key", "bytes", "sha256", "is_archive", "archive_seq", "entry", "error_code", "error_message")
NOTHING_UPLOADED = "Please upload images before starting!"
EMAIL_NEEDED = "Please enter your e-mail address."
EMAIL_WRONG = "That does not look like an e-mail address."


@dataclass(frozen=True, slots=True)
class Overview:
    """How far a submission is. ``place`` is its place in the queue, from 1, while nothing of it has been begun."""

    upload: Upload
    job: Job | None
    report: Report | None
    now: datetime
    place: int | None

    @property
    def stage(self) -> str:
        """What is being done, in words that clients may compare."""
        if self.upload.state is UploadState.REFUSED:
            return "refused"
        if self.job is None:
            return "opening" if self.upload.claim else "queued"
        if self.job.state is JobState.ONGOING:
            return "processing" if self.job.started_at else "queued"
        states = {ReportState.DONE: "ready", ReportState.FAILED: "failed"}
        return states.get(self.report.state, BUILDING) if self.report else BUILDING

    @property
    def is_ready(self) -> bool:
        return self.stage == "ready"

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.stage in ("ready", "failed", "refused")

    @property
    def percent(self) -> float:
        """Of the images, settled; of a report that is being built, drawn."""
        total, done = self._counts
        return int(1000 * done / total) / 10 if total else 0.0

    @property
    def _counts(self) -> tuple[int, int]:
        if self.job is None:
            return 0, 0
        if self.stage == BUILDING:
            return self.job.images_total, self.report.images_done if self.report else 0
        return self.job.images_total, self.job.images_total - self.job.images_open

    @property
    def remaining(self) -> tuple[float, float] | None:
        """The least and the most seconds that what is under way still takes, by its rate so far.

        Of n things done the rate is known to about one part in the root of n; twice that either way. None while fewer
        than five are done, and where nothing is under way whose rate is known.
        """
        began = None
        if self.job is not None:
            began = {"processing": self.job.started_at, BUILDING: self.job.finished_at}.get(self.stage)
        total, done = self._counts
        if began is None or done < LEAST_TO_TELL_FROM or self.now <= began:
            return None
        left = (total - done) * (self.now - began).total_seconds() / done
        spread = max(LEAST_SPREAD, 2 / math.sqrt(done))
        return round(left * max(0.0, 1 - spread), 1), round(left * (1 + spread), 1)

    @property
    def delete_at(self) -> datetime | None:
        """When it will be deleted; None where that is not known yet, or never."""
        ended = self.job.finished_at if self.job else None
        return ended + timedelta(days=settings.RETENTION_DAYS) if ended and settings.RETENTION_DAYS else None


@dataclass(frozen=True, slots=True)
class Photos:
    """A page of the photos of a submission; ``labels`` are what was found on these, with how often."""

    photos: list[Photo]
    labels: dict[str, int]
    next: int | None


def new_id() -> str:
    return uuid.uuid4().hex


def add(upload_id: str, name: str, pieces: Iterable[bytes]) -> UploadFile:
    """Store a file for a submission, which begins with its first file; an archive is passed on as it comes in.

    Raises DecodeError for what is neither an image nor a zip, TooLargeError, ConflictError where it was handed in
    already, NotFoundError, StorageError.
    """
    start, rest = _begin(pieces)
    is_archive = start.startswith(ZIP_STARTS)
    whole = _within_room(upload_id, chain([start], rest))
    if is_archive:
        key = new_key(FOLDER, ".zip")
        stored = storage.put(key, whole, content_type="application/zip")
    else:
        key, stored = _store_image(_gathered(whole))
    row = {"name": archives.shown(name), "storage_key": key, "bytes": stored.bytes, "sha256": stored.sha256}
    try:
        return transactions.run(lambda session: _add(session, upload_id, {**row, "is_archive": is_archive}))
    except (ConflictError, NotFoundError, TooLargeError):
        storage.delete([key])
        raise


def _begin(pieces: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Enough of a file to tell what it is, and the rest of it."""
    rest, start = iter(pieces), b""
    while len(start) < len(ZIP_STARTS[0]) and (piece := next(rest, None)) is not None:
        start += piece
    return start, rest


def _within_room(upload_id: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, as long as the submission has room for them. Raises TooLargeError."""
    of_upload = select(Upload.bytes).where(Upload.id == upload_id)
    size = transactions.read(lambda session: session.scalar(of_upload)) or 0

    def counted(size: int) -> Iterator[bytes]:
        for piece in pieces:
            size += len(piece)
            if size > most:
                raise TooLargeError(f"more than the {most:,} bytes that one submission may have")
            yield piece

    most = settings.UPLOAD_MAX_BYTES
    return counted(size)


def _gathered(pieces: Iterable[bytes]) -> bytes:
    """A whole image. Raises TooLargeError."""
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > settings.FETCH_MAX_BYTES:
            raise TooLargeError(f"larger than the {settings.FETCH_MAX_BYTES:,} bytes that an image may have")
    return bytes(body)


def _store_image(body: bytes) -> tuple[str, Stored]:
    """Under an ending and a type that its own header says. Raises DecodeError, StorageError."""
    image = ImageFile(body, DecodeLimits(settings.image_formats, settings.IMAGE_MAX_PIXELS)).image
    kind = FORMATS[str(image.format)]
    key = new_key(FOLDER, kind.suffix)
    return key, storage.put(key, body, content_type=kind.content_type)


def _add(session: Session, upload_id: str, file: dict[str, object]) -> UploadFile:
    """Row lock: the upload. Running again after a lost COMMIT finds the file by its key."""
    upload = _locked(session, upload_id)
    if upload is None:
        upload = _begun(session, upload_id)
    known = session.scalars(
        select(UploadFile).where(UploadFile.upload_id == upload_id, UploadFile.storage_key == file["storage_key"])
    ).first()
    if known:
        return known
    if upload.state is not UploadState.COLLECTING:
        raise ConflictError("this submission was handed in already; reload the page to begin another one")
    size = int(str(file["bytes"]))
    if upload.bytes + size > settings.UPLOAD_MAX_BYTES or upload.files >= settings.JOB_MAX_IMAGES:
        raise TooLargeError("more than one submission may have")
    row = UploadFile(upload_id=upload_id, seq=upload.files, **file)
    session.add(row)
    upload.files += 1
    upload.bytes += size
    session.flush()
    return row


def _locked(session: Session, upload_id: str) -> Upload | None:
    """The caller's upload. Raises NotFoundError where it is another's."""
    upload = session.scalars(select(Upload).where(Upload.id == upload_id).with_for_update()).first()
    if upload is not None and not _is_visible(upload):
        raise NotFoundError("no such submission")
    return upload


def _is_visible(upload: Upload) -> bool:
    caller = access.current()
    return caller.sees_all or upload.owner_id == caller.owner_id


def _begun(session: Session, upload_id: str) -> Upload:
    upload = Upload(
        id=upload_id,
        owner_id=access.current().owner_id,
        state=UploadState.COLLECTING,
        files=0,
        bytes=0,
        ignored=0,
        created_at=session.scalars(select(db_now())).one(),
        claim=0,
        attempts=0,
    )
    session.add(upload)
    session.flush()
    return upload


def hand_in(upload_id: str | None, email: str) -> None:
    """Queue a submission; a second call changes nothing. Raises InvalidRequestError with a sentence for people."""
    email = email.strip()
    if settings.UPLOAD_EMAIL_REQUIRED and not email:
        raise InvalidRequestError(EMAIL_NEEDED)
    if email and not mails.is_address(email):
        raise InvalidRequestError(EMAIL_WRONG)

    def work(session: Session) -> None:
        upload = _locked(session, upload_id) if upload_id else None
        if upload is None or not upload.files:
            raise InvalidRequestError(NOTHING_UPLOADED)
        if upload.state is UploadState.COLLECTING:
            now = session.scalars(select(db_now())).one()
            upload.state, upload.email = UploadState.QUEUED, email or None
            upload.queued_at = upload.due_at = now

    transactions.run(work)
    queues.ring_builder()


def get(upload_id: str) -> Overview:
    """How far a submission of the caller's is. Raises NotFoundError, also while its files are still collected."""

    def work(session: Session) -> Overview:
        upload = session.get(Upload, upload_id)
        if upload is None or upload.state is UploadState.COLLECTING or not _is_visible(upload):
            raise NotFoundError("no such results, or they have been deleted")
        job = session.get(Job, upload.job_id) if upload.job_id else None
        report = session.get(Report, upload.job_id) if upload.job_id else None
        now = session.scalars(select(db_now())).one()
        return Overview(upload, job, report, now, _place(session, upload, job))

    return transactions.read(work)


def find_photos(found: Overview, *, after: int) -> Photos:
    """A page of the photos, behind the one with the number ``after``, each with what was found on it."""
    assert found.job is not None
    of_job = (Image.job_id == found.job.id) & (Image.seq > after)
    query = select(Image).where(of_job).order_by(Image.seq).limit(PHOTOS_A_PAGE + 1)
    images = transactions.read(lambda session: list(session.scalars(query).all()))
    photos = [reports.as_photo(image) for image in images[:PHOTOS_A_PAGE]]
    labels = Counter(detection["label"] for photo in photos for detection in photo.detections)
    following = photos[-1].seq if len(images) > PHOTOS_A_PAGE else None
    return Photos(photos, dict(labels.most_common()), following)


def forget() -> int:
    """Delete submissions that nobody handed in, and those that were refused, some days later; returns how many.

    In slices, each in its own transaction: rows first, files behind them, which are orphans should we die in between.
    """
    forgotten = 0
    while deleted := transactions.run(_forget_some):
        storage.delete([key for keys in deleted.values() for key in keys])
        forgotten += len(deleted)
    return forgotten


def _forget_some(session: Session) -> dict[str, list[str]]:
    """By the id of each submission, the keys of its files."""
    is_left = (Upload.state == UploadState.COLLECTING) & (Upload.created_at < db_now(-COLLECTING_SECONDS))
    is_refused = (Upload.state == UploadState.REFUSED) & (Upload.created_at < db_now(-REFUSED_SECONDS))
    is_old = is_left | (is_refused & Upload.due_at.is_(None))
    old = session.scalars(select(Upload.id).where(is_old).limit(FORGOTTEN_AT_ONCE).with_for_update()).all()
    found: dict[str, list[str]] = {upload_id: [] for upload_id in old}
    if not old:
        return found
    files = select(UploadFile.upload_id, UploadFile.storage_key).where(UploadFile.upload_id.in_(old))
    for row in session.execute(files):
        if row.storage_key:
            found[row.upload_id].append(row.storage_key)
    session.execute(delete(UploadFile).where(UploadFile.upload_id.in_(old)))
    session.execute(delete(Upload).where(Upload.id.in_(old)))
    return found


def collected(upload_id: str) -> tuple[list[UploadFile], int]:
    """The first files that a submission of the caller's holds so far, and how many there are."""

    def work(session: Session) -> tuple[list[UploadFile], int]:
        upload = session.get(Upload, upload_id)
        if upload is None or upload.state is not UploadState.COLLECTING or not _is_visible(upload):
            return [], 0
        query = select(UploadFile).where(UploadFile.upload_id == upload_id).order_by(UploadFile.seq)
        return list(session.scalars(query.limit(MOST_SHOWN_FILES)).all()), upload.files

    return transactions.read(work)


def _place(session: Session, upload: Upload, job: Job | None) -> int | None:
    """Behind the submissions handed in before it, of which images are left to be worked on."""
    if job is None:
        is_waiting = upload.state is UploadState.QUEUED and not upload.claim
    else:
        is_waiting = job.state is JobState.ONGOING and job.started_at is None
    if not is_waiting:
        return None
    is_open = (Upload.state == UploadState.QUEUED) | (Job.state == JobState.ONGOING)
    ahead = (
        select(func.count())
        .select_from(Upload)
        .outerjoin(Job, Job.id == Upload.job_id)
        .where(Upload.queued_at < upload.queued_at, is_open)
    )
    return 1 + (session.scalar(ahead) or 0)


def open_next() -> bool:
    """Open the archives of the submission that has been due for longest, and create its job; False where none is.

    One that is interrupted is left to the next worker, who goes on with the entry behind the last one noted.
    """
    lease = leases.claim(Upload, Upload.state == UploadState.QUEUED)
    if lease is None:
        return False
    upload: Upload = lease.row
    try:
        if upload.attempts > MOST_ATTEMPTS:
            _refuse(lease, "it could not be opened: each worker that began with it died")
        else:
            with access.acting_for(upload.owner_id):
                _open(lease)
    except leases.LeaseLostError:
        log.warning("submission left", upload=upload.id[:8], reason="another worker opens it")
    except (ArchiveError, InvalidRequestError) as error:
        _refuse(lease, str(error))
    except (StorageError, StoredFileMissingError, QueueFullError) as error:
        _put_off(lease, str(getattr(error, "message", error)))
    return True


def _put_off(lease: Lease, reason: str) -> None:
    log.warning("submission put off", upload=lease.row.id[:8], reason=reason)
    with suppress(leases.LeaseLostError):
        if lease.row.attempts >= MOST_ATTEMPTS:
            _refuse(lease, reason)
        else:
            lease.give_back(delay_seconds=RETRY_SECONDS * lease.row.attempts)


def _refuse(lease: Lease, reason: str) -> None:
    """The end of a submission; who left an address is told."""
    log.info("submission refused", upload=lease.row.id[:8], reason=reason[:200])
    due = db_now() if lease.row.email else None
    values = {"state": UploadState.REFUSED, "error_message": reason[:300], "due_at": due, "attempts": 0}
    with suppress(leases.LeaseLostError):
        transactions.run(lambda session: lease.write(session, **values))


def _open(lease: Lease) -> None:
    upload: Upload = lease.row
    files = _files(upload.id)
    ignored = 0
    unpacked = 0
    for file in [each for each in files if each.is_archive]:
        done = {each.entry for each in files if each.archive_seq == file.seq}
        with _seekable(file) as stream, _naming(file):
            limits = ArchiveLimits(
                settings.JOB_MAX_IMAGES, settings.UPLOAD_MAX_BYTES - unpacked, settings.FETCH_MAX_BYTES
            )
            archive = Archive(stream, limits)
            ignored += archive.ignored
            unpacked += sum(member.bytes for member in archive.members)
            _unpack(lease, file, archive, [member for member in archive.members if member.place not in done])
    _create_job(lease, ignored)


@contextmanager
def _naming(file: UploadFile) -> Iterator[None]:
    """Say in whatever is refused which archive it is about."""
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"{file.name[-60:]}: {error}", is_too_large=error.is_too_large) from error


def _unpack(lease: Lease, file: UploadFile, archive: Archive, members: Sequence[Member]) -> None:
    rows: list[UploadFile] = []
    for member in members:
        rows.append(_unpacked(file, archive, member))
        if len(rows) == ENTRIES_A_WRITE:
            _note(lease, rows)
            rows = []
    _note(lease, rows)


def _unpacked(file: UploadFile, archive: Archive, member: Member) -> UploadFile:
    row = UploadFile(upload_id=file.upload_id, name=member.name, archive_seq=file.seq, entry=member.place, bytes=0)
    row.is_archive = False
    if member.is_too_large:
        row.error_code = "too_large"
        row.error_message = f"larger than the {settings.FETCH_MAX_BYTES:,} bytes that an image may have"
        return row
    try:
        row.storage_key, stored = _store_image(b"".join(archive.read(member)))
    except DecodeError as error:
        row.error_code, row.error_message = error.code, error.message
    else:
        row.bytes, row.sha256 = stored.bytes, stored.sha256
    return row


def _note(lease: Lease, rows: Sequence[UploadFile]) -> None:
    """Write down what was unpacked, and renew the lease. Row lock: the upload.

    After a COMMIT whose answer was lost the entries are there already, and are left as they are.
    """

    def work(session: Session) -> None:
        lease.write(session, due_at=db_now(settings.LEASE_SECONDS), attempts=0)
        of_upload = UploadFile.upload_id == lease.row.id
        following = 1 + (session.scalar(select(func.max(UploadFile.seq)).where(of_upload)) or 0)
        known = {
            tuple(row) for row in session.execute(select(UploadFile.archive_seq, UploadFile.entry).where(of_upload))
        }
        fresh = [row for row in rows if (row.archive_seq, row.entry) not in known]
        for seq, row in enumerate(fresh, following):
            values = {name: getattr(row, name) for name in NOTED}
            session.execute(insert(UploadFile).values(upload_id=lease.row.id, seq=seq, **values))

    transactions.run(work)


def _create_job(lease: Lease, ignored: int) -> None:
    upload: Upload = lease.row
    images = [_new_image(file) for file in _files(upload.id) if not file.is_archive]
    if not images:
        raise InvalidRequestError("there is no image in it")
    new = NewJob(JobSource.UPLOADS, images=images, processors=reports.PROCESSORS, keep_images=True)
    # By its name the job is found again where a worker died right behind its creation.
    created = jobs.create(new, Idempotency(f"upload:{upload.id}", upload.id.ljust(64, "0")))

    def work(session: Session) -> None:
        lease.write(session, state=UploadState.WORKING, job_id=created.job_id, ignored=ignored, due_at=None, attempts=0)
        session.execute(update(UploadFile).where(UploadFile.upload_id == upload.id).values(job_id=created.job_id))
        reports.plan(session, created.job_id, upload.id)

    transactions.run(work)


def _new_image(file: UploadFile) -> NewImage:
    known = NewImage(
        storage_key=file.storage_key,
        client_ref=file.name,
        bytes=file.bytes,
        sha256=file.sha256,
        content_type=CONTENT_TYPES.get(f".{str(file.storage_key).rpartition('.')[2]}"),
    )
    if file.error_code:
        return replace(known, state=ImageState.FAILED, error_code=file.error_code, error_message=file.error_message)
    return known


def _files(upload_id: str) -> list[UploadFile]:
    """In the order in which they were uploaded, those of an archive in its place."""
    query = select(UploadFile).where(UploadFile.upload_id == upload_id).order_by(UploadFile.seq)
    files = transactions.read(lambda session: list(session.scalars(query).all()))
    return sorted(files, key=lambda file: (file.seq if file.archive_seq is None else file.archive_seq, file.seq))


@contextmanager
def _seekable(file: UploadFile) -> Iterator[BinaryIO]:
    """The archive as a file on this host: itself where it lies on its disk, else a copy for the while."""
    key = str(file.storage_key)
    local = storage.local_path(key)
    if local is not None:
        storage.stat(key)  # raises where it is gone
        with Path(local).open("rb") as stream:
            yield stream
        return
    with scratch.file() as copy:
        for piece in storage.stream(key):
            copy.write(piece)
        copy.seek(0)
        yield copy
