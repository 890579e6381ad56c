"""Visits in whatever state as a table: one row a visit. ``visit_groups`` has those that add them up.

Rows are read along ``ix_visits_time`` (state, visited_at, store_id, then the primary key) or, of one store, along
``ix_visits_store``; whoever sees only what is their own has two like them with the owner in front. Each state is one
stretch of the index, so a page of a million visits costs its own size. Perimeters are of visits whose images all
succeeded, as ``GET /api/visits`` has them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from app.domain import access, cursors, transactions
from app.errors import InvalidRequestError
from app.models import Store, Visit, VisitState
from app.sql import db_now

# Of so many visits a page may be sorted by what no index has.
MOST_SORTED = 100_000
ROWS_A_SLICE = 2000
IDS_A_QUERY = 1000
DAYS_SHOWN = 7


class Sort(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"
    LARGEST = "largest"  # by perimeter
    SMALLEST = "smallest"
    FAILED = "failed"  # most failed images first


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
        conditions.append(Visit.store_id.in_(stores_of(session, wanted.area)))
    return conditions


def stores_of(session: Session, area: str) -> Sequence[str]:
    return session.scalars(select(Store.id).where(Store.area == area)).all()


def _with_stores(session: Session, rows: Sequence[VisitRow]) -> list[VisitRow]:
    known = find_stores(session, {row.store_id for row in rows})
    return [row._replace(area=known[row.store_id][0], store_name=known[row.store_id][1])
            if row.store_id in known else row for row in rows]  # fmt: skip


def find_stores(session: Session, ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Area and name by store."""
    found: dict[str, tuple[str, str]] = {}
    wanted = iter(sorted(ids))
    while part := list(islice(wanted, IDS_A_QUERY)):
        query = select(Store.id, Store.area, Store.name).where(Store.id.in_(part))
        found |= {row.id: (row.area, row.name) for row in session.execute(query)}
    return found
