"""Whoever settles, opens or deletes visits notes it here, in the same transaction; ``visit_sums`` adds it up.

Rows are only added: workers that settle visits of the same store and day at once do not wait for each other. Visits
must be noted while they are as they were, or are about to be, counted: before a retry or a purge changes them.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Date, Insert, Select, Table, and_, func, insert, literal, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import TableValuedAlias

from app.domain.access import NO_OWNER
from app.models import Visit, VisitChange, VisitState

ADDED, TAKEN_AWAY = 1, -1
COLUMNS = ("day", "store_id", "state", "error_code", "owner_id", "visits", "images", "images_failed", "perimeter")
TABLE = cast(Table, VisitChange.__table__)
# SQLite has dates as text, which is what it keeps them as.
day_of_visit = func.date(Visit.visited_at, type_=Date)


def insertion(sign: int, rows: TableValuedAlias, *conditions: Any, state: Any = Visit.state) -> Insert:
    """A statement that notes the visits which ``rows`` (job_id, seq) name, each looked up by its primary key.

    ``state`` is what they have become, where that is not what their rows say yet.
    """
    is_named = and_(Visit.job_id == rows.c.job_id, Visit.seq == rows.c.seq)
    named = _noted(sign, state).select_from(rows).join(Visit, is_named).where(*conditions)
    # Left to choose, a server may read all visits instead; see sql.py.
    named = named.prefix_with("STRAIGHT_JOIN", dialect="mysql").with_hint(Visit, "FORCE INDEX (PRIMARY)", "mysql")
    return insert(TABLE).from_select(COLUMNS, named)


def note_job(session: Session, job_id: int, sign: int) -> None:
    """Note all settled visits of a job, which is created or deleted; no commit."""
    settled = _noted(sign, Visit.state).where(Visit.job_id == job_id, Visit.state != VisitState.OPEN)
    session.execute(insert(TABLE).from_select(COLUMNS, settled))


def _noted(sign: int, state: Any) -> Select[Any]:
    return select(
        day_of_visit,
        Visit.store_id,
        state,
        func.coalesce(Visit.error_code, ""),
        func.coalesce(Visit.owner_id, NO_OWNER),
        literal(sign),
        sign * Visit.images_total,
        sign * Visit.images_failed,
        sign * Visit.perimeter,
    )
