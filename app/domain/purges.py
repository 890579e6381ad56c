"""Old jobs leave: their rows in every table, and the files that these name.

A job leaves in one transaction, so that no reader and no audit sees half of one (``JOB_MAX_IMAGES`` bounds it). Its
files go just before the COMMIT, while its rows are locked: whatever is interrupted is found again, and done again, by
the next purge, and no file is left behind without a row that names it.

A table of which rows belong to a job has a column ``job_id``, which leads one of its indexes; files that leave with a
row stand in columns named ``storage_key`` or ``..._storage_key``. So a new table needs nothing here. What settled
visits were counted for in ``visit_sums`` leaves with them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import structlog
from sqlalchemy import ColumnElement, Table, and_, delete, select
from sqlalchemy.orm import Session

from app.domain import transactions, visit_changes
from app.extensions import db, storage
from app.models import IdempotencyKey, Job, JobState, Visit
from app.sql import db_now

log = structlog.get_logger()

JOBS_A_LOOK = 100
# After each job, of the time that it took: whoever works meanwhile has the database for most of the time.
REST = 2.0
DAY_SECONDS = 86_400.0
# In the order in which everybody locks them; those of other doors come first.
LOCK_ORDER = ("chunks", "images", "visits")


def purge(days: float) -> int:
    """Delete the jobs that ended more than ``days`` days ago; returns how many. Can be stopped at any time.

    Raises UnavailableError, StorageError.
    """
    is_old = _is_older(days)
    purged = 0
    for job in _find(is_old):
        started = time.monotonic()
        purged += _purge(job.id, is_old)
        time.sleep(REST * (time.monotonic() - started))
    log.info("purged", jobs=purged)
    return purged


def find(days: float) -> Iterator[Job]:
    """The jobs that ``purge`` would delete, oldest number first. Raises UnavailableError."""
    return _find(_is_older(days))


def _is_older(days: float) -> ColumnElement[bool]:
    return and_(Job.state != JobState.ONGOING, Job.finished_at < db_now(-days * DAY_SECONDS))


def _find(is_old: ColumnElement[bool]) -> Iterator[Job]:
    last = 0
    query = select(Job).where(is_old).order_by(Job.id).limit(JOBS_A_LOOK)
    while found := transactions.read(
        lambda session, after=last: session.scalars(query.where(Job.id > after)).all()  # type: ignore[misc]
    ):
        yield from found
        last = found[-1].id


def _purge(job_id: int, is_old: ColumnElement[bool]) -> bool:
    return transactions.run(lambda session: _delete(session, job_id, is_old))


def _delete(session: Session, job_id: int, is_old: ColumnElement[bool]) -> bool:
    """False where the job has been retried, or purged, by somebody else. Row locks: all of the job's, itself last."""
    keys: list[str] = []
    for table in _tables():
        of_job = table.c.job_id == job_id
        for column in table.c:
            if column.name.endswith("storage_key"):
                keys += session.scalars(select(column).where(of_job, column.is_not(None)))
        if table.name == Visit.__tablename__:
            visit_changes.note_job(session, job_id, visit_changes.TAKEN_AWAY)
        session.execute(delete(table).where(of_job))
    if not session.execute(delete(Job).where(Job.id == job_id, is_old)).rowcount:  # type: ignore[attr-defined]
        session.rollback()
        return False
    storage.delete(keys)
    return True


def _tables() -> list[Table]:
    """All tables of which rows belong to a job. An Idempotency-Key outlives it: its request is not to be repeated."""
    found = [table for table in db.metadata.sorted_tables if "job_id" in table.c]
    ours = [table for table in found if table.name != IdempotencyKey.__tablename__]
    return sorted(ours, key=lambda table: LOCK_ORDER.index(table.name) if table.name in LOCK_ORDER else -1)
