"""The store master: which stores there are, where, and what they are called."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple

from sqlalchemy import Insert, func, or_, select
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from app import storefile
from app.domain import access, cursors, transactions
from app.errors import NotFoundError
from app.models import Store, Visit
from app.sql import db_now
from app.storefile import Refusal, StoreRow

STORES_A_STATEMENT = 1000
# What LIKE would take for more than itself.
LIKE = str.maketrans({character: f"!{character}" for character in "!%_"})


@dataclass(frozen=True)
class LoadReport:
    """What became of the lines of a store master; ``refused`` is by line, in their order."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: list[Refusal] = field(default_factory=list)


def load(stream: BinaryIO) -> LoadReport:
    """Add the stores of a CSV and update those that are known, all or none; stores that it lacks stay.

    Loading a file again changes nothing; nor does the transaction, run again after a COMMIT whose answer was lost: only
    the counts then read "unchanged". Raises InvalidRequestError where the file is empty or lacks a column.
    """
    ordered, refused = _read_file(stream)
    counts = transactions.run(lambda session: _load(session, ordered))
    return replace(counts, refused=refused)


def _read_file(stream: BinaryIO) -> tuple[list[StoreRow], list[Refusal]]:
    """Stores by id, so that two loads at once wait for each other in one direction only, and lines that are none."""
    rows: dict[str, StoreRow] = {}
    refused: list[Refusal] = []
    for found in storefile.read(stream):
        if isinstance(found, Refusal):
            refused.append(found)
        else:
            rows[found.store_id] = found
    return [rows[store_id] for store_id in sorted(rows)], sorted(refused)


@dataclass(frozen=True)
class Change:
    """A store that a load would add or change; ``area`` and ``name`` are those before, None where it is new."""

    row: StoreRow
    area: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Preview:
    """What ``load`` would do with a file now; ``changes`` are the first of them, those that are known already first."""

    report: LoadReport
    changes: list[Change]


def preview(stream: BinaryIO, *, most: int) -> Preview:
    """Writes nothing. Raises InvalidRequestError where the file is empty or lacks a column."""
    ordered, refused = _read_file(stream)

    def compare(session: Session) -> list[Change]:
        changes = []
        for start in range(0, len(ordered), STORES_A_STATEMENT):
            batch = ordered[start : start + STORES_A_STATEMENT]
            known = _known(session, batch)
            changes += [
                Change(row, *known.get(row.store_id, (None, None)))
                for row in batch
                if known.get(row.store_id) != (row.area, row.name)
            ]
        return changes

    changes = transactions.read(compare)
    added = sum(change.area is None for change in changes)
    report = LoadReport(added, len(changes) - added, len(ordered) - len(changes), refused)
    return Preview(report, sorted(changes, key=lambda change: change.area is None)[:most])


def get(store_id: str) -> Store:
    """One store. Raises NotFoundError."""
    store = transactions.read(lambda session: session.get(Store, store_id))
    if store is None:
        raise NotFoundError("no such store")
    return store


@dataclass(frozen=True, slots=True)
class StoreFilter:
    """Which stores; None does not narrow. ``search`` is part of an id or a name, in whatever case."""

    search: str | None = None
    area: str | None = None


class KnownStore(NamedTuple):
    id: str
    area: str
    name: str
    last_visit_at: datetime | None  # of those that the caller sees


def find(wanted: StoreFilter, *, cursor: str | None, per_page: int) -> tuple[list[KnownStore], str | None]:
    """A page of stores by id, and the cursor of the next page."""
    conditions = _conditions(wanted)
    if cursor:
        conditions.append(Store.id > cursors.read(cursor, [str])[0])
    query = known_stores().where(*conditions).limit(per_page + 1)
    found = transactions.read(lambda session: [KnownStore(*row) for row in session.execute(query)])
    page = found[:per_page]
    return page, cursors.write(page[-1].id) if len(found) > per_page else None


def known_stores() -> Any:
    """The query of KnownStore; its last visit is a stretch of ``ix_visits_store``, or the owner's, for each store."""
    latest = select(func.max(Visit.visited_at)).where(Visit.store_id == Store.id)
    visible = latest.where(access.is_visible(Visit)).correlate(Store).scalar_subquery()
    return select(Store.id, Store.area, Store.name, visible.label("last_visit_at")).order_by(Store.id)


def count(wanted: StoreFilter) -> int:
    query = select(func.count()).select_from(Store).where(*_conditions(wanted))
    return transactions.read(lambda session: session.scalar(query)) or 0


def _conditions(wanted: StoreFilter) -> list[Any]:
    conditions: list[Any] = [Store.area == wanted.area] if wanted.area else []
    if wanted.search:
        # Ids and names compare by their bytes here; a person who searches does not care.
        like = f"%{wanted.search.lower().translate(LIKE)}%"
        conditions.append(or_(*(func.lower(column).like(like, escape="!") for column in (Store.id, Store.name))))
    return conditions


def find_unknown(ids: Collection[str]) -> list[str]:
    """Those of these ids that are not in the store master, in their order."""
    wanted = sorted(ids)
    known: set[str] = set()

    def read(session: Session) -> None:
        for start in range(0, len(wanted), STORES_A_STATEMENT):
            part = wanted[start : start + STORES_A_STATEMENT]
            known.update(session.scalars(select(Store.id).where(Store.id.in_(part))))

    transactions.read(read)
    return [each for each in wanted if each not in known]


def find_areas() -> list[str]:
    """All areas that have a store."""
    query = select(Store.area).distinct().order_by(Store.area)
    return list(transactions.read(lambda session: session.scalars(query).all()))


def has_any() -> bool:
    """Whether the store master holds a store at all."""
    return transactions.read(lambda session: session.scalar(select(Store.id).limit(1))) is not None


def find_unique(names: Collection[str]) -> dict[str, str]:
    """The ids of those stores, by name, that alone bear one of these names, edge spaces aside."""
    wanted = sorted({name.strip() for name in names})

    def read(session: Session) -> dict[str, str]:
        found: dict[str, str] = {}
        for start in range(0, len(wanted), STORES_A_STATEMENT):
            query = (
                select(Store.name, func.min(Store.id))
                .where(Store.name.in_(wanted[start : start + STORES_A_STATEMENT]))
                .group_by(Store.name)
                .having(func.count() == 1)
            )
            found.update((name, store_id) for name, store_id in session.execute(query))
        return found

    return transactions.read(read)


def _load(session: Session, rows: Sequence[StoreRow]) -> LoadReport:
    added = changed = 0
    for start in range(0, len(rows), STORES_A_STATEMENT):
        batch = rows[start : start + STORES_A_STATEMENT]
        known = _known(session, batch)
        news = [row for row in batch if known.get(row.store_id) != (row.area, row.name)]
        _put(session, news)
        added += len(batch) - len(known)
        changed += len(news) - (len(batch) - len(known))
    return LoadReport(added, changed, unchanged=len(rows) - added - changed)


def _known(session: Session, rows: Sequence[StoreRow]) -> dict[str, tuple[str, str]]:
    wanted = select(Store.id, Store.area, Store.name).where(Store.id.in_([row.store_id for row in rows]))
    return {store_id: (area, name) for store_id, area, name in session.execute(wanted)}


def _put(session: Session, rows: Sequence[StoreRow]) -> None:
    """Insert, or update where a store has come to be known: by another process too, since it was looked for."""
    if not rows:
        return
    # The clock is read once and not written into the statement: the driver joins only plain parameters into one insert.
    now = session.scalar(select(db_now()))
    values = [
        {"id": row.store_id, "area": row.area, "name": row.name, "created_at": now, "updated_at": now} for row in rows
    ]
    session.execute(_upsert(session.get_bind().dialect.name), values)


def _upsert(dialect: str) -> Insert:
    if dialect == "mysql":
        on_mysql = mysql.insert(Store)
        return on_mysql.on_duplicate_key_update(_update(on_mysql.inserted))
    on_sqlite = sqlite.insert(Store)
    return on_sqlite.on_conflict_do_update(index_elements=[Store.id], set_=_update(on_sqlite.excluded))


def _update(sent: ReadOnlyColumnCollection[str, Any]) -> dict[str, Any]:
    return {"area": sent.area, "name": sent.name, "updated_at": sent.updated_at}
