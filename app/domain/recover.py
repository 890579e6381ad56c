"""The recover loop: it finds what was dropped, and rings for it.

Level-triggered: it asks what is due now and not what has happened, so a message that Redis lost, a worker that died
with its lease and a retry that has come due are all the same to it. Two loops at once are harmless.
"""

from __future__ import annotations

import threading

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app import queues
from app.domain import transactions
from app.errors import UnavailableError
from app.extensions import settings
from app.models import Chunk, IdempotencyKey
from app.sql import db_now

log = structlog.get_logger()

MOST_FORGOTTEN_AT_ONCE = 1000
HOUR_SECONDS = 3600.0


def run(stop: threading.Event) -> None:
    """Recover every ``RECOVER_SECONDS`` until ``stop`` is set; survives a database or a broker that is away."""
    seconds_since_purge = HOUR_SECONDS
    while True:
        try:
            recover()
            if seconds_since_purge >= HOUR_SECONDS:
                forget_idempotency_keys()
                seconds_since_purge = 0.0
        except UnavailableError:
            log.warning("nothing recovered", reason="the database is away")
        if stop.wait(settings.RECOVER_SECONDS):
            return
        seconds_since_purge += settings.RECOVER_SECONDS


def recover() -> int:
    """Ring for chunks that are due; returns how many are, counting no further than is worth ringing for."""
    due = transactions.read(_count_due)
    if due:
        queues.ring(due)
    return due


def _count_due(session: Session) -> int:
    some = select(Chunk.job_id).where(Chunk.due_at <= db_now()).limit(queues.MOST_UNHEARD).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def forget_idempotency_keys() -> None:
    """Delete keys older than ``IDEMPOTENCY_HOURS``, in slices that lock little."""
    oldest = db_now(-settings.IDEMPOTENCY_HOURS * HOUR_SECONDS)
    while transactions.run(lambda session: _forget_some(session, oldest)) == MOST_FORGOTTEN_AT_ONCE:
        pass


def _forget_some(session: Session, oldest: object) -> int:
    old = session.execute(
        select(IdempotencyKey.owner_id, IdempotencyKey.key)
        .where(IdempotencyKey.created_at < oldest)
        .limit(MOST_FORGOTTEN_AT_ONCE)
    ).all()
    for owner_id, key in old:
        session.execute(
            delete(IdempotencyKey).where(
                IdempotencyKey.owner_id == owner_id, IdempotencyKey.key == key, IdempotencyKey.created_at < oldest
            )
        )
    return len(old)
