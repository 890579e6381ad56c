"""Visits added up: a row for each store, area, day or week, and for each reason why visits failed.

Whole days of settled visits are read from ``visit_sums``, months at once where they lie within the period, and from the
changes that are not in the sums yet. Visits that are open, the first and last hours of a period that does not begin or
end with a day, and the visits of one job are added up as they lie in their own table. All of it is one snapshot, since
changes move into the sums meanwhile. Perimeters are of visits whose images all succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from app.domain import access, transactions, visit_tables
from app.domain.visit_changes import day_of_visit
from app.domain.visit_sums import SETTLED
from app.domain.visit_tables import Wanted
from app.models import Grain, Visit, VisitChange, VisitState, VisitSum


class Group(StrEnum):
    STORE = "store"
    AREA = "area"
    DAY = "day"
    WEEK = "week"


@dataclass(slots=True)
class GroupRow:
    """The visits of one store, area, day or week; ``key`` is its id, or the first day of it."""

    key: str | date | None  # None: of stores that are not in the store master
    name: str = ""
    area: str | None = None
    visits: int = 0
    completed: int = 0
    failed: int = 0
    open: int = 0
    images: int = 0
    images_failed: int = 0
    perimeter: int = 0

    def add(self, other: GroupRow) -> None:
        for field in ("visits", "completed", "failed", "open", "images", "images_failed", "perimeter"):
            setattr(self, field, getattr(self, field) + getattr(other, field))


GROUP_SORTS: dict[str, Callable[[GroupRow], Any]] = {
    "visits": lambda row: -row.visits,
    "failed": lambda row: -row.failed,
    "perimeter": lambda row: -row.perimeter,
}


def find(wanted: Wanted, group: Group, *, sort: str | None = None) -> list[GroupRow]:
    """A row for each store, area, day or week that has visits; by key, days and weeks latest first, or by ``sort``."""
    rows = transactions.snapshot(lambda session: _find(session, wanted, group))
    if group in (Group.DAY, Group.WEEK):
        rows.sort(key=lambda row: row.key, reverse=True)  # type: ignore[arg-type,return-value]
    else:
        rows.sort(key=lambda row: (row.key is None, row.key))
    return sorted(rows, key=GROUP_SORTS[sort]) if sort in GROUP_SORTS else rows


def _find(session: Session, wanted: Wanted, group: Group) -> list[GroupRow]:
    by_day = group in (Group.DAY, Group.WEEK)
    found = _merged(_read(session, wanted, by_day=by_day), lambda row: row.key)
    if by_day:
        return found if group is Group.DAY else _merged(found, lambda row: _monday(row.key))
    known = visit_tables.find_stores(session, (str(row.key) for row in found))
    for row in found:
        row.area, row.name = known.get(str(row.key), (None, "not in the store master"))
    return found if group is Group.STORE else by_area(found)


def count_errors(wanted: Wanted) -> list[tuple[str, int]]:
    """Failed visits by the code of their first failed image, the most frequent first."""

    def read(session: Session) -> list[tuple[str, int]]:
        counts: dict[str, int] = {}
        for query in _queries(session, replace(wanted, state=VisitState.FAILED), _by_error, by_day=True):
            for code, visits in session.execute(query):
                counts[code] = counts.get(code, 0) + int(visits)
        return sorted(((code, n) for code, n in counts.items() if n), key=lambda each: (-each[1], each[0]))

    return transactions.snapshot(read)


def by_area(stores: Iterable[GroupRow]) -> list[GroupRow]:
    """Rows of stores added up, by area; those that are not in the store master come last."""
    return sorted(_merged(stores, lambda row: row.area), key=lambda row: (row.key is None, row.key))


def gaps(days: Sequence[GroupRow], *, at_least: int) -> list[tuple[date, date, int]]:
    """Stretches without a visit between days that have some, in their order: first and last day, and how many."""
    dates = [row.key for row in days if isinstance(row.key, date)]
    found = []
    for earlier, later in pairwise(dates):
        length = (later - earlier).days - 1
        if length >= at_least:
            found.append((earlier + timedelta(days=1), later - timedelta(days=1), length))
    return found


def _monday(day: Any) -> date:
    monday: date = day - timedelta(days=day.weekday())
    return monday


def _merged(rows: Iterable[GroupRow], key: Callable[[GroupRow], Any]) -> list[GroupRow]:
    merged: dict[Any, GroupRow] = {}
    for row in rows:
        into = merged.setdefault(key(row), GroupRow(key(row)))
        into.add(row)
    return [row for row in merged.values() if row.visits]


def _read(session: Session, wanted: Wanted, *, by_day: bool) -> Iterator[GroupRow]:
    """Parts of what is asked for; several may have the same key."""
    by = _by_day if by_day else _by_store
    for query in _queries(session, wanted, by, by_day=by_day):
        for key, *counts in session.execute(query):
            yield GroupRow(_as_date(key) if by_day else key, "", None, *map(int, counts))


def _as_date(day: Any) -> date:
    return date.fromisoformat(day) if isinstance(day, str) else day  # SQLite has it as text


@dataclass(frozen=True, slots=True)
class _Source:
    """A table that visits can be added up from; its rows stand for ``visits`` of them each."""

    table: Any
    day: Any
    visits: Any
    images: Any
    error_code: Any


_visits = _Source(Visit, day_of_visit, 1, Visit.images_total, func.coalesce(Visit.error_code, ""))
_sums = _Source(VisitSum, VisitSum.first_day, VisitSum.visits, VisitSum.images, VisitSum.error_code)
_changes = _Source(VisitChange, VisitChange.day, VisitChange.visits, VisitChange.images, VisitChange.error_code)


def _by_store(source: _Source) -> Any:
    return _grouped(source, source.table.store_id)


def _by_day(source: _Source) -> Any:
    return _grouped(source, source.day)


def _grouped(source: _Source, key: Any) -> Any:
    def of(state: VisitState, value: Any) -> Any:
        return func.sum(case((source.table.state == state, value), else_=0))

    return select(
        key,
        func.sum(source.visits),
        of(VisitState.COMPLETED, source.visits),
        of(VisitState.FAILED, source.visits),
        of(VisitState.OPEN, source.visits),
        func.sum(source.images),
        func.sum(source.table.images_failed),
        of(VisitState.COMPLETED, source.table.perimeter),
    ).group_by(key)


def _by_error(source: _Source) -> Any:
    return select(source.error_code, func.sum(source.visits)).group_by(source.error_code)


def _queries(session: Session, wanted: Wanted, by: Callable[[_Source], Any], *, by_day: bool) -> Iterator[Any]:
    """Of which the answers together are what is wanted; ``by_day`` tells days of the same month apart."""
    states = [wanted.state] if wanted.state else list(VisitState)
    if wanted.job_id is not None:
        yield visit_tables.narrowed(session, by(_visits), wanted, states)
        return
    if VisitState.OPEN in states:
        yield visit_tables.narrowed(session, by(_visits), wanted, [VisitState.OPEN])
    settled = [state for state in states if state is not VisitState.OPEN]
    if not settled:
        return
    first, last, edges = _whole_days(wanted.start, wanted.end)
    for start, end in edges:
        yield visit_tables.narrowed(session, by(_visits), replace(wanted, start=start, end=end), settled)
    if first > last:
        return
    stores = _stores(session, wanted)
    for grain, since, until in _grains(first, last, by_day=by_day, is_narrowed=stores is not None):
        query = by(_sums).where(VisitSum.grain == grain, VisitSum.first_day.between(since, until))
        yield _narrowed(query, VisitSum, settled, stores)
    changes = by(_changes).where(VisitChange.day.between(first, last))
    yield _narrowed(changes, VisitChange, settled, stores)


def _narrowed(query: Any, table: Any, states: Sequence[VisitState], stores: Sequence[str] | None) -> Any:
    query = query.where(access.is_visible(table))
    if len(states) < len(SETTLED):
        query = query.where(table.state.in_(states))
    return query if stores is None else query.where(table.store_id.in_(stores))


def _stores(session: Session, wanted: Wanted) -> Sequence[str] | None:
    """Those that it is about, None for all."""
    if not wanted.area:
        return [wanted.store_id] if wanted.store_id else None
    stores = visit_tables.stores_of(session, wanted.area)
    return [store for store in stores if store == wanted.store_id] if wanted.store_id else stores


def _whole_days(
    start: datetime | None, end: datetime | None
) -> tuple[date, date, list[tuple[datetime | None, datetime | None]]]:
    """First and last day that lie within whole, and the stretches before and after them."""
    first, last = start or datetime.min, end or datetime.max
    if first.date() == last.date() and (first, last) != _day(first.date()):
        return date.max, date.min, [(start, end)]
    edges: list[tuple[datetime | None, datetime | None]] = []
    if first.time() != time.min:
        edges.append((first, _day(first.date())[1]))
        first = min(first, datetime.max - timedelta(days=1)) + timedelta(days=1)
    if last.time() != time.max:
        edges.append((_day(last.date())[0], end))
        last = max(last, datetime.min + timedelta(days=1)) - timedelta(days=1)
    return first.date(), last.date(), edges


def _day(day: date) -> tuple[datetime, datetime]:
    return datetime.combine(day, time.min), datetime.combine(day, time.max)


def _grains(first: date, last: date, *, by_day: bool, is_narrowed: bool) -> Iterator[tuple[Grain, date, date]]:
    """The fewest sums that make up these days: which grain, its first and its last ``first_day``."""
    if by_day:
        yield (Grain.STORE_DAY if is_narrowed else Grain.DAY), first, last
        return
    month, until = _month_from(first), _month_until(last)
    if month is None or until is None or month > until:
        yield Grain.STORE_DAY, first, last
        return
    if first < month:
        yield Grain.STORE_DAY, first, month - timedelta(days=1)
    yield Grain.STORE_MONTH, month, until
    if until < last:
        yield Grain.STORE_DAY, until + timedelta(days=1), last


def _month_from(day: date) -> date | None:
    """The first day of the first month that begins then or later."""
    if day.day == 1:
        return day
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1) if day < date.max.replace(day=1) else None


def _month_until(day: date) -> date | None:
    """The last day of the last month that ends then or earlier."""
    if day == date.max or (day + timedelta(days=1)).day == 1:
        return day
    return day.replace(day=1) - timedelta(days=1) if day.replace(day=1) > date.min else None
