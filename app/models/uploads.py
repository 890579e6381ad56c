"""Photos that people hand in by the upload page, and the reports that are built of jobs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Index, SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base, stored
from app.sql import BigId


class UploadState(StrEnum):
    COLLECTING = "collecting"  # files are coming in
    QUEUED = "queued"  # handed in; a worker opens its archives and creates its job
    WORKING = "working"  # its job is there
    REFUSED = "refused"  # an archive of it cannot be taken


class Upload(Base):
    __tablename__ = "uploads"
    __table_args__ = (Index(None, "due_at"), Index(None, "job_id"), Index(None, "created_at"), BYTEWISE)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)  # random: whoever knows it sees the results
    owner_id: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[UploadState] = mapped_column(stored(UploadState))
    email: Mapped[str | None] = mapped_column(String(254))
    options: Mapped[dict[str, Any] | None]  # what was asked of its job, where anything was
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    files: Mapped[int]  # as uploaded
    bytes: Mapped[int] = mapped_column(BigInteger)
    ignored: Mapped[int] = mapped_column(server_default="0")  # files in its archives that are no images by their names
    error_message: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[datetime]
    queued_at: Mapped[datetime | None]
    mailed_at: Mapped[datetime | None]
    # When a worker may take it: to open it while it is queued, to send the mail after that. NULL: nothing is to do.
    due_at: Mapped[datetime | None]
    claim: Mapped[int] = mapped_column(server_default="0")  # fencing token, as of chunks
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")  # at what is due


class UploadFile(Base):
    """A file as it was uploaded, or as it came out of an archive (``archive_seq`` and its place there)."""

    __tablename__ = "upload_files"
    __table_args__ = (Index(None, "storage_key"), Index(None, "job_id"), BYTEWISE | {"sqlite_with_rowid": False})

    upload_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(255))  # the client's
    storage_key: Mapped[str | None] = mapped_column(String(255))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
    is_archive: Mapped[bool] = mapped_column(default=False)
    archive_seq: Mapped[int | None]
    entry: Mapped[int | None]
    error_code: Mapped[str | None] = mapped_column(String(32))  # why it will not be worked on
    error_message: Mapped[str | None] = mapped_column(String(300))


class ReportState(StrEnum):
    WAITING = "waiting"  # for its job to end
    BUILDING = "building"
    DONE = "done"
    FAILED = "failed"


class Report(Base):
    """Of a job; built once it has ended, and anew when a retry has ended it again."""

    __tablename__ = "reports"
    __table_args__ = (Index(None, "due_at"), Index(None, "state"), BYTEWISE)

    job_id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(64))  # of its files, without the endings
    state: Mapped[ReportState] = mapped_column(stored(ReportState))
    images_done: Mapped[int] = mapped_column(server_default="0")  # by their seq: those before it are drawn
    folder: Mapped[str | None] = mapped_column(String(255))  # the beginning of the keys of all its files
    zip_storage_key: Mapped[str | None] = mapped_column(String(255))
    xlsx_storage_key: Mapped[str | None] = mapped_column(String(255))
    csv_storage_key: Mapped[str | None] = mapped_column(String(255))
    json_storage_key: Mapped[str | None] = mapped_column(String(255))
    zip_bytes: Mapped[int | None] = mapped_column(BigInteger)
    error_message: Mapped[str | None] = mapped_column(String(300))
    built_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]  # NULL: nothing is to do
    claim: Mapped[int] = mapped_column(server_default="0")
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
