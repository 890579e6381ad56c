"""What the pages say of the whole, of a period, and of one store. Images are never counted: jobs and visits know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.domain import access, stores, transactions, visit_tables
from app.domain.stores import KnownStore
from app.domain.visit_tables import Group, GroupRow, Wanted
from app.domain.workers import ALIVE_SECONDS
from app.models import Job, JobState, Store, Visit, VisitState, Worker
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
    return transactions.read(_now)


def _now(session: Session) -> Now:
    counters = ("images_total", "images_open", "images_done", "images_failed", "images_cancelled")
    sums = [func.coalesce(func.sum(getattr(Job, name)), 0) for name in counters]
    counted = session.execute(select(func.count(), *sums).where(access.is_visible(Job))).one()
    is_ongoing = Job.state == JobState.ONGOING
    ongoing = session.scalar(select(func.count()).select_from(Job).where(is_ongoing, access.is_visible(Job))) or 0
    alive = select(func.count(), func.sum(Worker.rate)).where(Worker.seen_at >= db_now(-ALIVE_SECONDS))
    workers, rate = session.execute(alive).one()
    jobs, total, waiting, done, failed, cancelled = map(int, counted)
    return Now(jobs, ongoing, total, waiting, done, failed, cancelled, workers, rate or 0.0)


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
    """The overview of a period; reads each visit of it twice."""
    wanted = Wanted(start, end, area, store_id)
    length = timedelta(days=(end.date() - start.date()).days + 1)
    # Before a period that begins long ago there is nothing, not even a date.
    before = replace(wanted, start=start - min(length, start - datetime.min), end=end - min(length, end - datetime.min))
    by_store = visit_tables.find_groups(wanted, Group.STORE)
    since = datetime.combine(end.date(), datetime.min.time()) - timedelta(days=silent_days - 1)
    silent, silent_total, known = transactions.read(lambda session: _silent(session, area, store_id, since))
    return Overview(
        days=visit_tables.find_groups(wanted, Group.DAY)[::-1],
        before=visit_tables.find_groups(before, Group.DAY)[::-1],
        areas=visit_tables.by_area(by_store),
        errors=count_errors(wanted),
        stores=known,
        covered=sum(row.area is not None for row in by_store),
        silent=silent,
        silent_total=silent_total,
        silent_since=since,
    )


def count_errors(wanted: Wanted) -> list[tuple[str, int]]:
    """Failed visits by the code of their first failed image, the most frequent first."""
    visits = func.count()

    def read(session: Session) -> list[tuple[str, int]]:
        query = visit_tables.narrowed(session, select(Visit.error_code, visits), wanted, [VisitState.FAILED])
        grouped = query.group_by(Visit.error_code).order_by(visits.desc(), Visit.error_code)
        return [(code or "", count) for code, count in session.execute(grouped)]

    return transactions.read(read)


def _silent(
    session: Session, area: str | None, store_id: str | None, since: datetime
) -> tuple[list[KnownStore], int, int]:
    """The first stores without a visit since then, how many they are, and how many stores there are."""
    query = select(Store.id).order_by(Store.id)
    if area:
        query = query.where(Store.area == area)
    if store_id:
        query = query.where(Store.id == store_id)
    known = session.scalars(query).all()
    wanted = Wanted(start=since, area=area, store_id=store_id)
    seen = set(session.scalars(visit_tables.narrowed(session, select(Visit.store_id).distinct(), wanted)))
    silent = [each for each in known if each not in seen]
    shown = stores.known_stores().where(Store.id.in_(silent[:SILENT_SHOWN]))
    return [KnownStore(*row) for row in session.execute(shown)], len(silent), len(known)
