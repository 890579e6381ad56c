"""How far a job is, and which of its stores failed; in a job without stores, which of its images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, case, func, or_, select
from sqlalchemy.orm import Session

from app.domain import jobs, plans, transactions
from app.domain.jobs import JobFilter
from app.models import Image, ImageState, Job, JobState, Visit
from app.sql import db_now

UNKNOWN_STORE = plans.UNKNOWN_STORE["error_code"]
# A status is asked for again and again; the listing of images has them all.
MOST_FAILED_IMAGES = 100


@dataclass(frozen=True, slots=True)
class FailedStore:
    store_id: str
    error: str


@dataclass(frozen=True, slots=True)
class FailedImage:
    seq: int
    url: str | None
    client_ref: str | None
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """``failed_images`` are the first ``MOST_FAILED_IMAGES`` of a job without stores, None where it has stores."""

    job: Job
    now: datetime
    failed_stores: tuple[FailedStore, ...] = ()
    failed_images: tuple[FailedImage, ...] | None = None

    @property
    def percent(self) -> float:
        """Images settled, in percent; 100 only when all are."""
        total = self.job.images_total
        return 100.0 if not self.job.images_open else int(1000 * (total - self.job.images_open) / total) / 10

    @property
    def eta_seconds(self) -> float | None:
        """The time left at the rate since the job was started; None while there is no rate to tell from.

        There is none after a retry: what was settled before it took time of its own.
        """
        job = self.job
        if not job.images_open:
            return 0.0
        if job.retried_at:
            return None
        settled = job.images_done + job.images_failed
        elapsed = (self.now - job.started_at).total_seconds() if job.started_at else 0.0
        return round(job.images_open * elapsed / settled, 1) if settled and elapsed > 0 else None

    @property
    def seconds(self) -> float | None:
        """From the first claim to the end, or until now; None before it is started."""
        job = self.job
        return ((job.finished_at or self.now) - job.started_at).total_seconds() if job.started_at else None

    @property
    def rate(self) -> float | None:
        """Images settled a second since the job was started; None where a retry has muddled that, or nothing is."""
        settled = self.job.images_done + self.job.images_failed
        return settled / self.seconds if settled and self.seconds and not self.job.retried_at else None


def get(job_id: int, *, with_stores: bool = True) -> Status:
    """The status of one job; reads counters, counts no images. Raises NotFoundError."""
    return transactions.read(lambda session: _get(session, job_id, with_stores=with_stores))


def find(wanted: JobFilter, *, cursor: str | None, per_page: int) -> tuple[list[Status], str | None]:
    """A page of jobs, newest first, each with how far it is, and the cursor of the next page."""
    found, following = jobs.find(wanted, cursor=cursor, per_page=per_page)
    now = transactions.read(lambda session: session.scalars(select(db_now())).one())
    return [Status(job, now) for job in found], following


def _get(session: Session, job_id: int, *, with_stores: bool) -> Status:
    job = jobs.load(session, job_id)
    now = session.scalars(select(db_now())).one()
    if not with_stores or job.state in (JobState.ONGOING, JobState.COMPLETED):
        return Status(job, now)
    if not job.visits_total:
        return Status(job, now, failed_images=tuple(_failed_images(session, job)))
    return Status(job, now, tuple(FailedStore(row.store_id, _reason(row)) for row in _failed(session, job_id)))


def _failed_images(session: Session, job: Job) -> Iterator[FailedImage]:
    if not job.images_failed:
        return
    columns = (Image.seq, Image.url, Image.client_ref, Image.error_code, Image.error_message)
    query = select(*columns).where(Image.job_id == job.id, Image.state == ImageState.FAILED).order_by(Image.seq)
    for row in session.execute(query.limit(MOST_FAILED_IMAGES)):
        yield FailedImage(*row)


def _failed(session: Session, job_id: int) -> Any:
    """One row a store with images that failed or were cancelled, in the order as sent, with its first error."""
    totals = (
        select(
            Visit.store_id,
            func.min(Visit.seq).label("first_seq"),
            func.min(case((Visit.error_code.is_not(None), Visit.seq))).label("error_seq"),
            func.sum(Visit.images_total).label("images"),
            func.sum(Visit.images_failed).label("failed"),
            func.sum(Visit.images_cancelled).label("cancelled"),
        )
        .where(Visit.job_id == job_id)
        .group_by(Visit.store_id)
        .having(or_(func.sum(Visit.images_failed) > 0, func.sum(Visit.images_cancelled) > 0))
        .subquery()
    )
    has_error = and_(Visit.job_id == job_id, Visit.seq == totals.c.error_seq)
    query = select(totals, Visit.error_code, Visit.error_message).outerjoin_from(totals, Visit, has_error)
    return session.execute(query.order_by(totals.c.first_seq))


def _reason(row: Any) -> str:
    if row.error_code == UNKNOWN_STORE:
        return f"unknown store: {row.error_message}"
    if not row.failed:
        return "cancelled"
    reason = f"{row.failed} of {row.images} images failed; first: {row.error_code}: {row.error_message}"
    return f"{reason}; {row.cancelled} cancelled" if row.cancelled else reason
