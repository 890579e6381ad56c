"""The recover loop: it finds what was dropped, and rings for it.

Level-triggered: it asks what is due now and not what has happened, so a message that Redis lost, a worker that died
with its lease and a retry that has come due are all the same to it. Likewise it goes on with cancellations that a web
process left half done. Two loops at once are harmless.
"""

from __future__ import annotations

import threading

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import queues
from app.domain import cancellations, chores, feeder, idempotency, reports, transactions, visit_sums, workers
from app.errors import UnavailableError
from app.extensions import settings
from app.models import Chunk, Export, Report, Upload
from app.sql import db_now

log = structlog.get_logger()

HOUR_SECONDS = 3600.0
# A few bells each time wake as many idle workers; busy ones find the work by themselves.
BELLS_A_LOOK = 4


def run(stop: threading.Event) -> None:
    """Recover every ``RECOVER_SECONDS`` until ``stop`` is set; survives a database or a broker that is away."""
    chores.start(stop)
    feeder.start(stop)
    visit_sums.start(stop)
    seconds_since_purge = HOUR_SECONDS
    while True:
        try:
            recover()
            cancellations.resume()
            if seconds_since_purge >= HOUR_SECONDS:
                idempotency.forget()
                workers.forget()
                seconds_since_purge = 0.0
        except UnavailableError:
            log.warning("nothing recovered", reason="the database is away")
        if stop.wait(settings.RECOVER_SECONDS):
            return
        seconds_since_purge += settings.RECOVER_SECONDS


def recover() -> int:
    """Ring for chunks that are due; returns for how many it rang."""
    due = transactions.read(_count_due)
    if due:
        queues.ring_all(due)
    reports.wake()
    if transactions.read(_has_to_build):
        queues.ring_builder()
    return due


def _has_to_build(session: Session) -> bool:
    return any(
        session.execute(select(table.due_at).where(table.due_at <= db_now()).limit(1)).first()
        for table in (Upload, Report, Export)
    )


def _count_due(session: Session) -> int:
    some = select(Chunk.job_id).where(Chunk.due_at <= db_now()).limit(BELLS_A_LOOK).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0
