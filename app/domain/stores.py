"""The store master: which stores there are, where, and what they are called."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from sqlalchemy import Insert, func, select
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from app import storefile
from app.domain import transactions
from app.models import Store
from app.sql import db_now
from app.storefile import Refusal, StoreRow

STORES_A_STATEMENT = 1000


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
    rows: dict[str, StoreRow] = {}
    refused: list[Refusal] = []
    for found in storefile.read(stream):
        if isinstance(found, Refusal):
            refused.append(found)
        else:
            rows[found.store_id] = found
    # By id, so that two loads at once wait for each other in one direction only.
    ordered = [rows[store_id] for store_id in sorted(rows)]
    counts = transactions.run(lambda session: _load(session, ordered))
    return replace(counts, refused=sorted(refused))


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
