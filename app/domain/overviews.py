"""What the pages say of the whole, of a period, and of one store. Images are never counted: jobs and visits know."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.domain import access, job_sums, stores, transactions, visit_groups
from app.domain.stores import KnownStore
from app.domain.visit_groups import Group, GroupRow
from app.domain.visit_tables import Wanted
from app.domain.workers import ALIVE_SECONDS
from app.models import Job, JobState, Store, Worker
from app.sql import db_now

SILENT_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Now:
    """Images of all jobs that the caller sees, and how fast the workers are."""

    jobs: int
    ongoing: int
    images: int
    open: int
    done: int
    failed: int
    cancelled: int
    workers: int
    rate: float  # images a second, all workers together, over their last few seconds

    @property
    def drain_seconds(self) -> float | None:
        """Until what waits is done at that rate; None while nothing moves."""
        return self.open / self.rate if self.rate > 0 else None


def now() -> Now:
    """Reads counters of jobs."""
    return transactions.snapshot(_now)


def _now(session: Session) -> Now:
    sums = job_sums.read(session)
    is_ongoing = Job.state == JobState.ONGOING
    ongoing = session.scalar(select(func.count()).select_from(Job).where(is_ongoing, access.is_visible(Job))) or 0
    is_alive = Worker.seen_at >= db_now(-ALIVE_SECONDS)
    alive = select(func.count(), func.sum(Worker.rate)).where(is_alive, Worker.slots > 0)
    workers, rate = session.execute(alive).one()
    total, waiting, done, failed, cancelled = sums.images
    return Now(sums.jobs, ongoing, total, waiting, done, failed, cancelled, workers, rate or 0.0)


@dataclass(frozen=True, slots=True)
class Overview:
    """A period, and ``before`` it the same length again; groups are in the order of their keys."""

    days: Sequence[GroupRow]
    before: Sequence[GroupRow]
    areas: Sequence[GroupRow]
    errors: Sequence[tuple[str, int]]  # failed visits by the code of their first failed image, most frequent first
    stores: int  # in the store master
    covered: int  # of them with a visit in the period
    silent: Sequence[KnownStore]  # the first of them
    silent_total: int
    silent_since: datetime


def of(start: datetime, end: datetime, *, area: str | None, store_id: str | None, silent_days: int) -> Overview:
    """The overview of a period."""
    wanted = Wanted(start, end, area, store_id)
    length = timedelta(days=(end.date() - start.date()).days + 1)
    # Before a period that begins long ago there is nothing, not even a date.
    before = replace(wanted, start=start - min(length, start - datetime.min), end=end - min(length, end - datetime.min))
    by_store = visit_groups.find(wanted, Group.STORE)
    since = datetime.combine(end.date(), datetime.min.time()) - timedelta(days=silent_days - 1)
    seen = {str(row.key) for row in visit_groups.find(replace(wanted, start=since, end=None), Group.STORE)}
    silent, silent_total, known = transactions.read(lambda session: _silent(session, area, store_id, seen))
    return Overview(
        days=visit_groups.find(wanted, Group.DAY)[::-1],
        before=visit_groups.find(before, Group.DAY)[::-1],
        areas=visit_groups.by_area(by_store),
        errors=visit_groups.count_errors(wanted),
        stores=known,
        covered=sum(row.area is not None for row in by_store),
        silent=silent,
        silent_total=silent_total,
        silent_since=since,
    )


def _silent(
    session: Session, area: str | None, store_id: str | None, seen: Collection[str]
) -> tuple[list[KnownStore], int, int]:
    """The first stores that were not seen, how many they are, and how many stores there are."""
    query = select(Store.id).order_by(Store.id)
    if area:
        query = query.where(Store.area == area)
    if store_id:
        query = query.where(Store.id == store_id)
    known = session.scalars(query).all()
    silent = [each for each in known if each not in seen]
    shown = stores.known_stores().where(Store.id.in_(silent[:SILENT_SHOWN]))
    return [KnownStore(*row) for row in session.execute(shown)], len(silent), len(known)
