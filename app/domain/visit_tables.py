"""Visits in whatever state as tables: one row a visit, or a row for each store, area, day or week.

Rows are read along ``ix_visits_time`` (state, visited_at, store_id, then the primary key) or, of one store, along
``ix_visits_store``; whoever sees only what is their own has two like them with the owner in front. Each state is one
stretch of the index, so a page of a million visits costs its own size. Groups read every visit of their period.
Perimeters are of visits whose images all succeeded, as ``GET /api/visits`` has them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import islice, pairwise
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select
from sqlalchemy.orm import Session

from app.domain import access, cursors, transactions
from app.errors import InvalidRequestError
from app.models import Store, Visit, VisitState
from app.sql import db_now

# Of so many visits a page may be sorted by what no index has.
MOST_SORTED = 100_000
# Past so many, reading the whole table is faster than looking each visit up by the index.
MANY = 200_000
ROWS_A_SLICE = 2000
IDS_A_QUERY = 1000
DAYS_SHOWN = 7


class Sort(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"
    LARGEST = "largest"  # by perimeter
    SMALLEST = "smallest"
    FAILED = "failed"  # most failed images first


class Group(StrEnum):
    STORE = "store"
    AREA = "area"
    DAY = "day"
    WEEK = "week"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which visits; None does not narrow. Bounds are inclusive."""

    start: datetime | None = None
    end: datetime | None = None
    area: str | None = None
    store_id: str | None = None
    job_id: int | None = None
    state: VisitState | None = None


class VisitRow(NamedTuple):
    job_id: int
    seq: int
    store_id: str
    visited_at: datetime
    state: VisitState
    images_total: int
    images_open: int
    images_failed: int
    perimeter: int
    seconds: float
    error_code: str | None
    error_message: str | None
    area: str | None = None  # these two are None where the store is not in the store master
    store_name: str | None = None


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


@dataclass(frozen=True, slots=True)
class Page:
    visits: list[VisitRow]
    next: str | None


def last_days(days: int = DAYS_SHOWN) -> tuple[date, date] | None:
    """First and last of the latest days that have visits, so that old data is shown, too; None where there are none.

    A visit in the future is somebody's wrong clock, and counts only where there are no others.
    """
    return transactions.read(lambda session: _last_days(session, days))


def _last_days(session: Session, days: int) -> tuple[date, date] | None:
    tomorrow = _midnight(session.scalars(select(db_now())).one()) + timedelta(days=1)
    last = _latest(session, before=tomorrow) or _latest(session, before=None)
    first = last
    for _ in range(days - 1):
        earlier = _latest(session, before=_midnight(first)) if first else None
        if earlier is None:
            break
        first = earlier
    return (first.date(), last.date()) if first and last else None


def _latest(session: Session, *, before: datetime | None) -> datetime | None:
    """The last visit's time; a look at the end of each state's stretch of the index."""
    is_before = [Visit.visited_at < before] if before else []
    visible = access.is_visible(Visit)
    latest = select(func.max(Visit.visited_at)).where(*is_before, visible)
    # Beside each other, not united: a union would be written to a table of its own first.
    each = [latest.where(Visit.state == state).scalar_subquery() for state in VisitState]
    return max((at for at in session.execute(select(*each)).one() if at), default=None)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def find(wanted: Wanted, *, sort: Sort = Sort.NEWEST, cursor: str | None, per_page: int) -> Page:
    """A page of visits. Raises InvalidRequestError, also where there are too many to be sorted like that."""
    return transactions.read(lambda session: _find(session, wanted, sort, cursor, per_page))


def read(wanted: Wanted, sort: Sort) -> Iterator[list[VisitRow]]:
    """All that ``find`` pages through, a slice at a time, each in a transaction of its own."""
    cursor: str | None = None
    while True:
        page = find(wanted, sort=sort, cursor=cursor, per_page=ROWS_A_SLICE)
        yield page.visits
        cursor = page.next
        if cursor is None:
            return


def _find(session: Session, wanted: Wanted, sort: Sort, cursor: str | None, per_page: int) -> Page:
    if sort in (Sort.NEWEST, Sort.OLDEST):
        found = _by_time(session, wanted, cursor, per_page + 1, is_newest=sort is Sort.NEWEST)
        following = _time_cursor(found[per_page - 1]) if len(found) > per_page else None
    else:
        offset = cursors.read(cursor, [int])[0] if cursor else 0
        found = _sorted(session, wanted, sort, offset, per_page + 1)
        following = cursors.write(offset + per_page) if len(found) > per_page else None
    return Page(_with_stores(session, found[:per_page]), following)


def _time_cursor(row: VisitRow) -> str:
    return cursors.write(row.visited_at.isoformat(), row.store_id, row.job_id, row.seq)


_columns = [getattr(Visit, name) for name in VisitRow._fields[:-2]]


def _row(row: Any) -> VisitRow:
    return VisitRow(*row)


def _by_time(session: Session, wanted: Wanted, cursor: str | None, most: int, *, is_newest: bool) -> Sequence[VisitRow]:
    place = (Visit.visited_at, Visit.store_id, Visit.job_id, Visit.seq)
    # Sorting by a column that is the same in all rows would keep a server from reading in the index's order.
    ordered = [column for column in place if not (wanted.store_id and column is Visit.store_id)]
    order = [column.desc() if is_newest else column for column in ordered]
    conditions = _matches(session, wanted)
    if cursor:
        conditions.append(_is_behind(cursor, is_newest=is_newest))
    query = _hinted(select(*_columns), wanted).where(*conditions).order_by(*order).limit(most)
    stretches = [
        [_row(row) for row in session.execute(query.where(Visit.state == state)).all()] for state in _states(wanted)
    ]
    merged = heapq.merge(
        *stretches, key=lambda row: (row.visited_at, row.store_id, row.job_id, row.seq), reverse=is_newest
    )
    return list(islice(merged, most))


def _is_behind(cursor: str, *, is_newest: bool) -> ColumnElement[bool]:
    """Spelled out, as MariaDB takes no index for rows that are compared; the first bound is what it enters by."""
    text, store_id, job_id, seq = cursors.read(cursor, [str, str, int, int])
    try:
        at = datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError as error:
        raise cursors.broken() from error

    def past(column: Any, value: Any) -> ColumnElement[bool]:
        behind: ColumnElement[bool] = column < value if is_newest else column > value
        return behind

    same_store = or_(past(Visit.job_id, job_id), and_(Visit.job_id == job_id, past(Visit.seq, seq)))
    same_time = or_(past(Visit.store_id, store_id), and_(Visit.store_id == store_id, same_store))
    bound = Visit.visited_at <= at if is_newest else Visit.visited_at >= at
    return and_(bound, or_(past(Visit.visited_at, at), same_time))


def _sorted(session: Session, wanted: Wanted, sort: Sort, offset: int, most: int) -> Sequence[VisitRow]:
    if _count(session, wanted, most=MOST_SORTED) > MOST_SORTED:
        raise InvalidRequestError(
            f"sort: more than {MOST_SORTED} visits match, which is too many to be sorted by {sort.value}; "
            "narrow the dates, or name an area or a store"
        )
    orders: dict[Sort, list[Any]] = {
        Sort.LARGEST: [Visit.perimeter.desc()],
        Sort.SMALLEST: [Visit.perimeter],
        Sort.FAILED: [Visit.images_failed.desc(), Visit.visited_at.desc()],
    }
    query = _hinted(select(*_columns), wanted).where(Visit.state.in_(_states(wanted)), *_matches(session, wanted))
    query = query.order_by(*orders[sort], Visit.job_id, Visit.seq).offset(offset).limit(most)
    return [_row(row) for row in session.execute(query)]


def count(wanted: Wanted, *, most: int) -> int:
    """How many visits match; ``most`` + 1 where they are more. Read from the index alone."""
    return transactions.read(lambda session: _count(session, wanted, most=most))


def _count(session: Session, wanted: Wanted, *, most: int) -> int:
    query = _hinted(select(Visit.seq), wanted).where(Visit.state.in_(_states(wanted)), *_matches(session, wanted))
    return session.scalar(select(func.count()).select_from(query.limit(most + 1).subquery())) or 0


def _states(wanted: Wanted) -> Sequence[VisitState]:
    return [wanted.state] if wanted.state else list(VisitState)


def _hinted(query: Select[Any], wanted: Wanted) -> Select[Any]:
    """A server would often rather read and sort the whole table than walk an index that ends where the page does."""
    if wanted.job_id is not None:
        return query.with_hint(Visit, "FORCE INDEX (PRIMARY)", "mysql")
    owner = "" if access.current().sees_all else "owner_"
    index = f"ix_visits_{owner}store" if wanted.store_id else f"ix_visits_{owner}time"
    return query.with_hint(Visit, f"FORCE INDEX ({index})", "mysql")


def narrowed(session: Session, query: Any, wanted: Wanted, states: Sequence[VisitState] = tuple(VisitState)) -> Any:
    """A query of visits, narrowed to those that are wanted."""
    return _hinted(query, wanted).where(Visit.state.in_(states), *_matches(session, wanted))


def _matches(session: Session, wanted: Wanted) -> list[Any]:
    conditions: list[Any] = [access.is_visible(Visit)]
    if wanted.start:
        conditions.append(Visit.visited_at >= wanted.start)
    if wanted.end:
        conditions.append(Visit.visited_at <= wanted.end)
    if wanted.job_id is not None:
        conditions.append(Visit.job_id == wanted.job_id)
    if wanted.store_id:
        conditions.append(Visit.store_id == wanted.store_id)
    if wanted.area:
        stores = session.scalars(select(Store.id).where(Store.area == wanted.area)).all()
        conditions.append(Visit.store_id.in_(stores))
    return conditions


def _with_stores(session: Session, rows: Sequence[VisitRow]) -> list[VisitRow]:
    known = _stores(session, {row.store_id for row in rows})
    return [row._replace(area=known[row.store_id][0], store_name=known[row.store_id][1])
            if row.store_id in known else row for row in rows]  # fmt: skip


def _stores(session: Session, ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Area and name by store."""
    found: dict[str, tuple[str, str]] = {}
    wanted = iter(sorted(ids))
    while part := list(islice(wanted, IDS_A_QUERY)):
        query = select(Store.id, Store.area, Store.name).where(Store.id.in_(part))
        found |= {row.id: (row.area, row.name) for row in session.execute(query)}
    return found


def find_groups(wanted: Wanted, group: Group, *, sort: str | None = None) -> list[GroupRow]:
    """A row for each store, area, day or week that has visits; by key, days and weeks latest first, or by ``sort``."""
    rows = transactions.read(lambda session: _find_groups(session, wanted, group))
    if group in (Group.DAY, Group.WEEK):
        rows.sort(key=lambda row: row.key, reverse=True)  # type: ignore[arg-type,return-value]
    else:
        rows.sort(key=lambda row: (row.key is None, row.key))
    return sorted(rows, key=GROUP_SORTS[sort]) if sort in GROUP_SORTS else rows


def _find_groups(session: Session, wanted: Wanted, group: Group) -> list[GroupRow]:
    by_day = group in (Group.DAY, Group.WEEK)
    found = _aggregate(session, wanted, func.date(Visit.visited_at) if by_day else Visit.store_id)
    if by_day:
        days = [replace(row, key=_as_date(row.key)) for row in found]
        return days if group is Group.DAY else _merged(days, lambda row: _monday(row.key))
    known = _stores(session, (str(row.key) for row in found))
    for row in found:
        row.area, row.name = known.get(str(row.key), (None, "not in the store master"))
    return found if group is Group.STORE else by_area(found)


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


def _as_date(day: Any) -> date:
    return date.fromisoformat(day) if isinstance(day, str) else day  # SQLite has it as text


def _monday(day: Any) -> date:
    monday: date = day - timedelta(days=day.weekday())
    return monday


def _merged(rows: Iterable[GroupRow], key: Callable[[GroupRow], Any]) -> list[GroupRow]:
    merged: dict[Any, GroupRow] = {}
    for row in rows:
        into = merged.setdefault(key(row), GroupRow(key(row)))
        into.add(row)
    return list(merged.values())


def _aggregate(session: Session, wanted: Wanted, key: Any) -> list[GroupRow]:
    def images_of(state: VisitState, value: Any) -> Any:
        return func.sum(case((Visit.state == state, value), else_=0))

    query = select(
        key,
        func.count(),
        images_of(VisitState.COMPLETED, 1),
        images_of(VisitState.FAILED, 1),
        images_of(VisitState.OPEN, 1),
        func.sum(Visit.images_total),
        func.sum(Visit.images_failed),
        images_of(VisitState.COMPLETED, Visit.perimeter),
    )
    if _count(session, wanted, most=MANY) <= MANY:
        query = _hinted(query, wanted)
    elif access.current().sees_all:
        query = query.with_hint(Visit, "IGNORE INDEX (ix_visits_time, ix_visits_store)", "mysql")
    query = query.where(Visit.state.in_(_states(wanted)), *_matches(session, wanted)).group_by(key)
    return [GroupRow(row[0], "", None, *map(int, row[1:])) for row in session.execute(query)]
