"""The sums of settled visits: kept from what ``visit_changes`` notes, and compared with the visits themselves.

A sum plus the changes that are not in it yet is exact at any moment; ``visit_groups`` reads both in one snapshot. So
nothing hangs on how soon changes are added up: a recover loop that stands still costs readers time, and nothing else.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import Any, NamedTuple, cast

import structlog
from flask import Flask, current_app
from sqlalchemy import BigInteger, Date, String, Table, and_, delete, func, insert, select, true
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.domain import transactions, visit_changes
from app.domain.access import NO_OWNER
from app.domain.visit_changes import COLUMNS, day_of_visit
from app.errors import UnavailableError
from app.extensions import settings
from app.models import Grain, Visit, VisitChange, VisitState, VisitSum
from app.sql import db_now, json_rows

log = structlog.get_logger()

# Added up in one transaction: about half a second on MariaDB, and nobody waits for its locks.
CHANGES_A_FOLD = 5_000
ROWS_A_STATEMENT = 1_000
# However many wait, to say so costs no more than this.
MOST_COUNTED = 10_000
COUNTS = ("visits", "images", "images_failed", "perimeter")
ALL_STORES = ""
SUMS = cast(Table, VisitSum.__table__)
SETTLED = [state for state in VisitState if state is not VisitState.OPEN]


class Key(NamedTuple):
    """Which settled visits: those of one store, day, end and owner."""

    day: date
    store_id: str
    state: VisitState
    error_code: str
    owner_id: int


class Cell(NamedTuple):
    """The key of a row of the sums."""

    grain: Grain
    first_day: date
    store_id: str
    state: VisitState
    error_code: str
    owner_id: int


Counts = list[int]  # in the order of COUNTS
NOTHING = [0] * len(COUNTS)


def start(stop: threading.Event) -> None:
    """Add changes up, in a thread of its own, until ``stop`` is set. Two such threads are harmless."""
    app = cast(Flask, current_app._get_current_object())  # type: ignore[attr-defined]
    threading.Thread(target=_run, args=(app, stop), name="visit sums", daemon=True).start()


def _run(app: Flask, stop: threading.Event) -> None:
    with app.app_context():
        while not stop.wait(settings.RECOVER_SECONDS):
            try:
                while fold() == CHANGES_A_FOLD and not stop.is_set():
                    pass
            except (UnavailableError, DBAPIError) as error:
                log.warning("visits not added up", reason=str(error)[:200])


def fold(most: int = CHANGES_A_FOLD) -> int:
    """Add up to so many changes to the sums, and return how many. A second run finds none of them left."""
    return transactions.run(lambda session: _fold(session, most))


def waiting() -> tuple[int, float | None]:
    """How many changes are not in the sums yet, counted up to MOST_COUNTED, and for how many seconds the oldest is not.

    None: there are none, or only such as an older release has noted.
    """
    return transactions.read(_waiting)


def _waiting(session: Session) -> tuple[int, float | None]:
    first = select(VisitChange.noted_at).order_by(VisitChange.id).limit(MOST_COUNTED).subquery()
    count, oldest, now = session.execute(select(func.count(), func.min(first.c.noted_at), db_now())).one()
    return count, (now - oldest).total_seconds() if oldest else None


def _fold(session: Session, most: int) -> int:
    columns = [getattr(VisitChange, name) for name in COLUMNS]
    # Those that somebody has not committed yet, or adds up already, are for another time.
    query = select(VisitChange.id, *columns).order_by(VisitChange.id).limit(most).with_for_update(skip_locked=True)
    changes = session.execute(query).all()
    if not changes:
        return 0
    sums = _added((Key(*row[1:6]), row[6:]) for row in changes)
    cells = [(cell, counts) for key, counts in sums.items() for cell in _cells(key)]
    _add(session, cells)
    if any(counts[0] <= 0 for counts in sums.values()):
        # A cell of which all visits have left says nothing; days of which jobs are purged would pile them up.
        days = {cell.first_day for cell, _ in cells}
        session.execute(delete(VisitSum).where(VisitSum.first_day.in_(days), _is_nothing))
    for ids in _slices([change.id for change in changes]):
        session.execute(delete(VisitChange).where(VisitChange.id.in_(ids)))
    return len(changes)


_is_nothing = and_(*(getattr(VisitSum, name) == 0 for name in COUNTS))


def _cells(key: Key) -> list[Cell]:
    rest = key[2:]
    return [
        Cell(Grain.STORE_DAY, key.day, key.store_id, *rest),
        Cell(Grain.STORE_MONTH, key.day.replace(day=1), key.store_id, *rest),
        Cell(Grain.DAY, key.day, ALL_STORES, *rest),
    ]


def _added(rows: Iterable[tuple[Key, Sequence[int]]]) -> dict[Key, Counts]:
    sums: defaultdict[Key, Counts] = defaultdict(lambda: list(NOTHING))
    for key, counts in rows:
        sums[key] = _plus(sums[key], counts)
    return sums


def _plus(counts: Sequence[int], more: Sequence[int]) -> Counts:
    return [a + int(b) for a, b in zip(counts, more, strict=True)]


_new = json_rows(
    "sums",
    grain=String(16),
    first_day=Date(),
    store_id=String(64),
    state=String(16),
    error_code=String(32),
    owner_id=BigInteger(),
    **{name: BigInteger() for name in COUNTS},
)
_KEY = Cell._fields
_summed = (
    select(*(_new.c[name] for name in _KEY), *(func.sum(_new.c[name]) for name in COUNTS))
    .where(true())  # SQLite would take ON CONFLICT for a part of the FROM
    .group_by(*(_new.c[name] for name in _KEY))
    .order_by(*(_new.c[name] for name in _KEY))
)


def _add(session: Session, cells: Iterable[tuple[Cell, Counts]]) -> None:
    """Rows are locked in the order of their keys."""
    rows = [(cell.grain.value, cell.first_day.isoformat(), *cell[2:], *counts) for cell, counts in cells]
    names = [*_KEY, *COUNTS]
    if session.get_bind().dialect.name == "mysql":
        on_mysql = mysql.insert(SUMS).from_select(names, _summed)
        added = {name: SUMS.c[name] + on_mysql.inserted[name] for name in COUNTS}
        statement: Any = on_mysql.on_duplicate_key_update(added)
    else:
        on_sqlite = sqlite.insert(SUMS).from_select(names, _summed)
        added = {name: SUMS.c[name] + on_sqlite.excluded[name] for name in COUNTS}
        statement = on_sqlite.on_conflict_do_update(index_elements=list(_KEY), set_=added)
    session.execute(statement, {"sums": json.dumps(rows)})


def _slices(values: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(values)
    while part := list(islice(left, ROWS_A_STATEMENT)):
        yield part


def recount() -> int:
    """Put right what sums and visits disagree about; returns how many sums were wrong.

    What is missing is added, as everything else is, so the service may run meanwhile; a second recount may not.
    """
    return transactions.run(_recount, is_snapshot=True)


def _recount(session: Session) -> int:
    rows = [
        key._asdict() | {name: a - b for name, a, b in zip(COUNTS, visits, noted, strict=True)}
        for key, visits, noted in differences(session)
    ]
    for part in _slices(rows):
        session.connection().execute(insert(visit_changes.TABLE), part)
    mended = [(cell, _plus(found, [-each for each in said])) for cell, found, said in torn(session)]
    for some in _slices(mended):
        _add(session, some)
    return len(rows) + len(mended)


def differences(session: Session) -> Iterator[tuple[Key, Counts, Counts]]:
    """Where the visits of a store's day come to something else than the sums say; in a snapshot, a month at a time."""
    for first in _months(session):
        last = _next_month(first) - timedelta(days=1)
        visits, noted = _visits_of(session, first, last), _noted_of(session, first, last)
        for key in sorted(visits.keys() | noted.keys()):
            found, said = visits.get(key, NOTHING), noted.get(key, NOTHING)
            if found != said:
                yield key, found, said


def torn(session: Session) -> Iterator[tuple[Cell, Counts, Counts]]:
    """Where sums of months, or of all stores, are not what those of the stores' days come to; in a snapshot."""
    for first in _months(session):
        last = _next_month(first) - timedelta(days=1)
        columns = [getattr(VisitSum, name) for name in (*_KEY, *COUNTS)]
        rows = session.execute(select(*columns).where(VisitSum.first_day.between(first, last))).all()
        said = {Cell(*row[: len(_KEY)]): list(row[len(_KEY) :]) for row in rows}
        added: defaultdict[Cell, Counts] = defaultdict(lambda: list(NOTHING))
        for cell, counts in said.items():
            if cell.grain is Grain.STORE_DAY:
                for larger in _cells(Key(*cell[1:]))[1:]:
                    added[larger] = _plus(added[larger], counts)
        for cell in sorted(added.keys() | {cell for cell in said if cell.grain is not Grain.STORE_DAY}):
            found, noted = added.get(cell, NOTHING), said.get(cell, NOTHING)
            if found != noted:
                yield cell, found, noted


def _months(session: Session) -> Iterator[date]:
    """The first day of each month that has a visit, a sum or a change."""
    after = date.min
    while True:
        firsts = [
            select(func.min(Visit.visited_at))
            .where(Visit.state == state, Visit.visited_at >= datetime.combine(after, time.min))
            .scalar_subquery()
            for state in SETTLED
        ]
        days = [
            select(func.min(VisitSum.first_day))
            .where(VisitSum.grain == Grain.STORE_DAY, VisitSum.first_day >= after)
            .scalar_subquery(),
            select(func.min(VisitChange.day)).where(VisitChange.day >= after).scalar_subquery(),
        ]
        found = [each for each in session.execute(select(*firsts, *days)).one() if each]
        if not found:
            return
        first = min(each.date() if isinstance(each, datetime) else each for each in found).replace(day=1)
        yield first
        if first >= date.max.replace(day=1):
            return
        after = _next_month(first)


def _next_month(first: date) -> date:
    if first >= date.max.replace(day=1):
        return date.max
    return (first + timedelta(days=31)).replace(day=1)


def _visits_of(session: Session, first: date, last: date) -> dict[Key, Counts]:
    period = (datetime.combine(first, time.min), datetime.combine(last, time.max))
    key = (
        day_of_visit,
        Visit.store_id,
        Visit.state,
        func.coalesce(Visit.error_code, ""),
        func.coalesce(Visit.owner_id, NO_OWNER),
    )
    counts = (func.sum(getattr(Visit, name)) for name in ("images_total", "images_failed", "perimeter"))
    query = select(*key, func.count(), *counts).where(Visit.state.in_(SETTLED), Visit.visited_at.between(*period))
    query = query.with_hint(Visit, "FORCE INDEX (ix_visits_time)", "mysql")
    return _added((Key(*row[:5]), row[5:]) for row in session.execute(query.group_by(*key)))


def _noted_of(session: Session, first: date, last: date) -> dict[Key, Counts]:
    found: list[Any] = []
    for table, day, more in (
        (VisitSum, VisitSum.first_day, [VisitSum.grain == Grain.STORE_DAY]),
        (VisitChange, VisitChange.day, []),
    ):
        columns = (table.store_id, table.state, table.error_code, table.owner_id)
        counts = (getattr(table, name) for name in COUNTS)
        found += session.execute(select(day, *columns, *counts).where(day.between(first, last), *more))
    return {key: counts for key, counts in _added((Key(*row[:5]), row[5:]) for row in found).items() if any(counts)}
