"""Jobs with their visits, chunks and images."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Double, Index, SmallInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base, stored
from app.sql import BigId


class JobState(StrEnum):
    ONGOING = "ongoing"
    COMPLETED = "completed"  # every image was read
    FAILED = "failed"  # every image is settled, at least one failed
    CANCELLED = "cancelled"  # the contract's pollers are told "failed"


class VisitState(StrEnum):
    OPEN = "open"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ImageState(StrEnum):
    OPEN = "open"  # not settled: waiting, being worked on, or due again after a failure that may pass
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobSource(StrEnum):
    """The door a job came in by."""

    URLS = "urls"  # store systems: visits with their URLs
    BATCHES = "batches"  # cameras in stores: files
    MANIFESTS = "manifests"  # tables of ids and URLs
    IMAGES = "images"  # single files
    UPLOADS = "uploads"  # people with a folder of photos


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        # Claims go round the open jobs in this order.
        Index("ix_jobs_turns", "state", "parked_until", "owner_id", "lane", "turn"),
        Index(None, "owner_id", "id"),
        Index(None, "source", "id"),
        BYTEWISE,
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    # Drawn before the transaction, so that one whose COMMIT lost its answer is found again and not made twice.
    submission: Mapped[str] = mapped_column(String(32), unique=True)
    source: Mapped[JobSource] = mapped_column(stored(JobSource))
    owner_id: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[JobState] = mapped_column(stored(JobState))
    priority: Mapped[int] = mapped_column(SmallInteger)
    # Whose places it takes: that of the detector, or "plain".
    lane: Mapped[str] = mapped_column(String(16), server_default="plain")
    turn: Mapped[int] = mapped_column(BigInteger)  # virtual time of fair queueing: work given out, by weight
    # Nothing of it is due before that, so claims pass it by until then; NULL: something may be.
    parked_until: Mapped[datetime | None]
    client_metadata: Mapped[dict[str, Any] | None]
    processors: Mapped[list[str] | None]
    keep_images: Mapped[bool] = mapped_column(default=False)
    feed: Mapped[dict[str, Any] | None]  # how its images are told on a list of Redis, if they are
    callback_url: Mapped[str | None] = mapped_column(Text)
    visits_total: Mapped[int]
    images_total: Mapped[int]
    images_open: Mapped[int]
    images_done: Mapped[int]
    images_failed: Mapped[int]
    images_cancelled: Mapped[int]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # When its cancellation was asked for. While it is set no chunk is claimed; a retry clears it.
    cancelled_at: Mapped[datetime | None]
    retried_at: Mapped[datetime | None]  # when settled images of it were last opened again
    version: Mapped[int] = mapped_column(server_default="0")  # counts how often it was closed: a retry closes it again


class Visit(Base):
    """A store at a time within a job; its totals hold once its images are settled."""

    __tablename__ = "visits"
    __table_args__ = (
        Index("ix_visits_store", "store_id", "state", "visited_at"),  # what GET /api/visits walks
        Index("ix_visits_time", "state", "visited_at", "store_id"),  # what the pages walk
        # The same two for whoever sees only what is their own.
        Index("ix_visits_owner_store", "owner_id", "store_id", "state", "visited_at"),
        Index("ix_visits_owner_time", "owner_id", "state", "visited_at", "store_id"),
        BYTEWISE | {"sqlite_with_rowid": False},
    )

    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(BigInteger)  # the job's
    store_id: Mapped[str] = mapped_column(String(64))
    visited_at: Mapped[datetime]
    visited_as_sent: Mapped[str] = mapped_column(String(64))
    state: Mapped[VisitState] = mapped_column(stored(VisitState))
    images_total: Mapped[int]
    images_open: Mapped[int]
    images_failed: Mapped[int]
    images_cancelled: Mapped[int]
    perimeter: Mapped[int] = mapped_column(BigInteger)  # pixels, the sum over its images
    seconds: Mapped[float] = mapped_column(Double)  # the sum over its images
    error_code: Mapped[str | None] = mapped_column(String(32))  # of the image that failed first
    error_message: Mapped[str | None] = mapped_column(String(300))
    settled_at: Mapped[datetime | None]
    version: Mapped[int]  # counts how often it was settled: a retry changes totals that were read before


class Chunk(Base):
    """The unit of dispatch and of lease: images ``first_image`` to ``first_image + images - 1`` of one job."""

    __tablename__ = "chunks"
    __table_args__ = (
        Index(None, "job_id", "due_at"),
        Index(None, "job_id", "unreturned", "due_at"),  # leases that ran out
        Index(None, "due_at"),
        BYTEWISE | {"sqlite_with_rowid": False},
    )

    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    first_image: Mapped[int]
    images: Mapped[int]
    # From when on it may be claimed: its creation, the end of its lease, its earliest retry. NULL: nothing is left.
    due_at: Mapped[datetime | None]
    claim: Mapped[int]  # fencing token: goes up with every claim, and with a cancellation; results must name it
    # Claims in a row that were not given back: since then a worker may have died at one of these images.
    unreturned: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    claimed_by: Mapped[str | None] = mapped_column(String(100))
    claimed_at: Mapped[datetime | None]


class Image(Base):
    __tablename__ = "images"
    __table_args__ = (
        Index(None, "storage_key"),
        # What batches of cameras are searched by. Images by URL have none of these, and come in as fast as without.
        Index(None, "store_name", "job_id"),
        Index(None, "camera_id", "job_id"),
        Index(None, "barcode", "job_id"),
        Index(None, "captured_at", "job_id"),
        BYTEWISE | {"sqlite_with_rowid": False},
    )

    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    visit_seq: Mapped[int | None]
    url: Mapped[str | None] = mapped_column(Text)
    storage_key: Mapped[str | None] = mapped_column(String(255))
    content_type: Mapped[str | None] = mapped_column(String(100))  # of the stored file, as its header says
    client_ref: Mapped[str | None] = mapped_column(String(255))  # the id or file name that the client gave it
    client_metadata: Mapped[dict[str, Any] | None]  # what else the client said of it, given back as it came
    captured_at: Mapped[datetime | None]
    captured_as_sent: Mapped[str | None] = mapped_column(String(64))
    store_name: Mapped[str | None] = mapped_column(String(255))  # as sent
    store_id: Mapped[str | None] = mapped_column(String(64))  # the one store in the master that had this name then
    camera_id: Mapped[str | None] = mapped_column(String(255))
    barcode: Mapped[str | None] = mapped_column(String(255))
    state: Mapped[ImageState] = mapped_column(stored(ImageState))
    error_code: Mapped[str | None] = mapped_column(String(32))
    error_message: Mapped[str | None] = mapped_column(String(300))
    width: Mapped[int | None]
    height: Mapped[int | None]
    perimeter: Mapped[int | None] = mapped_column(BigInteger)  # pixels: 2 * (height + width)
    format: Mapped[str | None] = mapped_column(String(16))
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
    results: Mapped[dict[str, Any] | None]  # by processor: {"version", "seconds" and "result", or "error"}
    seconds: Mapped[float | None] = mapped_column(Double)
    attempts: Mapped[int] = mapped_column(SmallInteger)  # in all
    attempts_before: Mapped[int] = mapped_column(SmallInteger, server_default="0")  # those before the last retry
    next_attempt_at: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]
