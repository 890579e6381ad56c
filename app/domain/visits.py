"""Visits of the caller's jobs whose images all succeeded, by store, area and period.

Read store by store along ``ix_visits_store`` (store_id, state, visited_at, then the primary key), or along
``ix_visits_owner_store``, which has the owner in front, for whoever sees only what is their own. So a page costs
its own size wherever it lies. A join sorted by columns of both tables would sort all that matches first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import Session

from app.domain import access, cursors, transactions
from app.errors import InvalidRequestError
from app.models import Store, Visit, VisitState

STORES_A_QUERY = 1000


@dataclass(frozen=True, slots=True)
class VisitFilter:
    """Which visits, by at least one of these; bounds are inclusive."""

    area: str | None = None
    store_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


class CompletedVisit(NamedTuple):
    store: Any  # id, area, name
    visited_at: datetime
    perimeter: int
    images: int
    seconds: float
    job_id: int
    seq: int


@dataclass(frozen=True, slots=True)
class Page:
    visits: list[CompletedVisit]
    next: str | None
    total: int | None


def find(wanted: VisitFilter, *, cursor: str | None, per_page: int, with_total: bool) -> Page:
    """A page of visits by store, time, job and order as sent. Raises InvalidRequestError."""
    if wanted == VisitFilter():
        raise InvalidRequestError("give at least one of area, storeid, startdate, enddate")
    if wanted.start and wanted.end and wanted.start > wanted.end:
        raise InvalidRequestError("startdate: later than enddate")
    after = _read_cursor(cursor) if cursor else None
    return transactions.read(lambda session: _find(session, wanted, after, per_page, with_total))


def _find(session: Session, wanted: VisitFilter, after: _Key | None, per_page: int, with_total: bool) -> Page:
    _expect_known(session, wanted)
    found = _walk(session, wanted, after, per_page + 1)
    page = found[:per_page]
    following = _write_cursor(page[-1]) if len(found) > per_page else None
    return Page(page, following, _total(session, wanted) if with_total else None)


def _expect_known(session: Session, wanted: VisitFilter) -> None:
    if wanted.area and session.scalar(select(Store.id).where(Store.area == wanted.area).limit(1)) is None:
        raise InvalidRequestError("area: unknown area")
    if wanted.store_id and session.scalar(select(Store.id).where(Store.id == wanted.store_id)) is None:
        raise InvalidRequestError("storeid: unknown store")


class _Key(NamedTuple):
    """Where the page before ended."""

    store_id: str
    visited_at: datetime
    job_id: int
    seq: int


def _write_cursor(last: CompletedVisit) -> str:
    return cursors.write(last.store.id, last.visited_at.isoformat(), last.job_id, last.seq)


def _read_cursor(cursor: str) -> _Key:
    store_id, visited_at, job_id, seq = cursors.read(cursor, [str, str, int, int])
    try:
        return _Key(store_id, datetime.fromisoformat(visited_at).replace(tzinfo=None), job_id, seq)
    except ValueError as error:
        raise cursors.broken() from error


def _walk(session: Session, wanted: VisitFilter, after: _Key | None, most: int) -> list[CompletedVisit]:
    found: list[CompletedVisit] = []
    query = _stores(wanted)
    if after:  # the rest of the store in which the page before ended
        found += _of_stores(
            session, wanted, session.execute(query.where(Store.id == after.store_id)).all(), most, after
        )
        query = query.where(Store.id > after.store_id)
    while len(found) < most:
        stores = session.execute(query.limit(STORES_A_QUERY)).all()
        found += _of_stores(session, wanted, stores, most - len(found))
        if len(stores) < STORES_A_QUERY:
            break
        query = _stores(wanted).where(Store.id > stores[-1].id)
    return found


def _stores(wanted: VisitFilter) -> Select[str, str, str]:
    query = select(Store.id, Store.area, Store.name).order_by(Store.id)
    if wanted.area:
        query = query.where(Store.area == wanted.area)
    if wanted.store_id:
        query = query.where(Store.id == wanted.store_id)
    return query


def _of_stores(
    session: Session, wanted: VisitFilter, stores: Sequence[Any], most: int, after: _Key | None = None
) -> list[CompletedVisit]:
    """Up to ``most`` visits of these stores; with ``after`` of its one store, behind it."""
    if not stores:
        return []
    by_id = {store.id: store for store in stores}
    place = (Visit.store_id, Visit.visited_at, Visit.job_id, Visit.seq)
    is_one = len(by_id) == 1
    query = (
        select(*place, Visit.perimeter, Visit.images_total, Visit.seconds)
        .where(Visit.store_id == stores[0].id if is_one else Visit.store_id.in_(by_id), *_matches(wanted))
        .with_hint(Visit, _index(), "mysql")
        # Sorting by a column that is the same in all rows would keep a server from reading in the index's order.
        .order_by(*place[1:] if is_one else place)
        .limit(most)
    )
    if after:
        query = query.where(_is_behind(after))
    return [
        CompletedVisit(
            by_id[row.store_id], row.visited_at, row.perimeter, row.images_total, row.seconds, row.job_id, row.seq
        )
        for row in session.execute(query)
    ]


def _index() -> str:
    """Where the stores asked for are many, a server may else prefer to read and sort the whole table."""
    return f"FORCE INDEX ({'ix_visits_store' if access.current().sees_all else 'ix_visits_owner_store'})"


def _matches(wanted: VisitFilter) -> list[Any]:
    conditions: list[Any] = [Visit.state == VisitState.COMPLETED, access.is_visible(Visit)]
    if wanted.start:
        conditions.append(Visit.visited_at >= wanted.start)
    if wanted.end:
        conditions.append(Visit.visited_at <= wanted.end)
    return conditions


def _is_behind(key: _Key) -> Any:
    """Spelled out, as MariaDB takes no index for ``(a, b, c) > (x, y, z)``; the first bound is what it enters by."""
    return and_(
        Visit.visited_at >= key.visited_at,
        or_(
            Visit.visited_at > key.visited_at,
            Visit.job_id > key.job_id,
            and_(Visit.job_id == key.job_id, Visit.seq > key.seq),
        ),
    )


def _total(session: Session, wanted: VisitFilter) -> int:
    stores = _stores(wanted).order_by(None).subquery()
    query = select(func.count()).select_from(stores).join(Visit, Visit.store_id == stores.c.id)
    return session.scalar(query.where(*_matches(wanted)).with_hint(Visit, _index(), "mysql")) or 0
