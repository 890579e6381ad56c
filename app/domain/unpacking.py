"""Submissions that were handed in are opened by a worker: their archives are unpacked, and they become a job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import structlog
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from app.archives import Archive, ArchiveLimits, Member
from app.domain import access, jobs, leases, reports, scratch, transactions, uploads
from app.domain.idempotency import Idempotency
from app.domain.jobs import JobOptions, NewImage, NewJob
from app.domain.leases import Lease
from app.errors import (
    ArchiveError,
    DecodeError,
    InvalidRequestError,
    QueueFullError,
    StorageError,
    StoredFileMissingError,
)
from app.extensions import settings, storage
from app.models import ImageState, JobSource, Upload, UploadFile, UploadState
from app.processors.formats import FORMATS
from app.sql import db_now

log = structlog.get_logger()

RETRY_SECONDS = 15.0
ENTRIES_A_WRITE = 50
CONTENT_TYPES = {kind.suffix: kind.content_type for kind in FORMATS.values()}
NOTED = ("name", "storage_key", "bytes", "sha256", "is_archive", "archive_seq", "entry", "error_code", "error_message")


def open_next() -> bool:
    """Open the archives of the submission that has been due for longest, and create its job; False where none is.

    One that is interrupted is left to the next worker, who goes on with the entry behind the last one noted.
    """
    lease = leases.claim(Upload, Upload.state == UploadState.QUEUED)
    if lease is None:
        return False
    upload: Upload = lease.row
    try:
        if lease.is_hopeless:
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
    lease.put_off(retry_seconds=RETRY_SECONDS, give_up=lambda: _refuse(lease, reason))


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
        row.storage_key, stored = uploads.store_image(b"".join(archive.read(member)))
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
    options = JobOptions(**(upload.options or {}))
    wanted = [*reports.PROCESSORS, *(options.processors or ())]
    new = NewJob(JobSource.UPLOADS, images=images, **replace(options, processors=wanted, keep_images=True).fields())
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
