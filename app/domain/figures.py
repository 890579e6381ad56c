"""How the service is doing, in numbers: for the metrics and for the control room.

Everything is read from one snapshot, and what it costs follows the work at hand (open jobs, due chunks), not the
jobs that were ever done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis
from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session

from app import queues
from app.domain import health, totals, transactions
from app.domain.workers import ALIVE_SECONDS
from app.models import Chunk, Delivery, Job, JobState, Worker
from app.sql import db_now


@dataclass(frozen=True, slots=True)
class Figures:
    """The state of the database at one moment."""

    jobs_ongoing: int
    images_open: int  # of those jobs: waiting, being worked on, or due again later
    chunks_due: int  # may be claimed now
    chunks_late: int  # ... and were claimed before: a lease that ran out, a retry that has come due
    chunks_leased: int  # claimed, or due again later
    oldest_due_seconds: float  # how long the chunk that waits longest has been due; 0 where none is
    workers_alive: int  # of those that take images, as ``slots``
    workers_for_reports: int  # alive too, and take none
    workers_silent: int  # seen in the last day, and gone without a good-bye
    slots: int
    in_flight: int
    deliveries_due: int  # webhooks that may be sent now
    oldest_delivery_seconds: float
    totals: Mapping[str, Mapping[str, int]]


def read() -> Figures:
    """Raises UnavailableError."""
    return transactions.snapshot(_read)


def _read(session: Session) -> Figures:
    is_ongoing = Job.state == JobState.ONGOING
    jobs, images = session.execute(select(func.count(), func.sum(Job.images_open)).where(is_ongoing)).one()
    (chunks, now), workers = _chunks(session), _workers(session)
    due = select(func.count().label("due"), func.min(Delivery.due_at).label("oldest")).where(Delivery.due_at <= now)
    deliveries = session.execute(due).one()
    age = (now - chunks.oldest).total_seconds() if chunks.oldest else 0.0
    return Figures(
        jobs_ongoing=jobs,
        images_open=int(images or 0),
        chunks_due=int(chunks.due or 0),
        chunks_late=int(chunks.late or 0),
        chunks_leased=int(chunks.leased or 0),
        oldest_due_seconds=max(age, 0.0),
        workers_alive=int(workers.alive or 0),
        workers_for_reports=int(workers.for_reports or 0),
        workers_silent=int(workers.silent or 0),
        slots=int(workers.slots or 0),
        in_flight=int(workers.in_flight or 0),
        deliveries_due=deliveries.due,
        oldest_delivery_seconds=max((now - deliveries.oldest).total_seconds(), 0.0) if deliveries.oldest else 0.0,
        totals=totals.find(session),
    )


def _chunks(session: Session) -> tuple[Any, datetime]:
    """One range of the index over due_at: chunks that are done with have none."""
    now = session.scalars(select(db_now())).one()
    is_due = Chunk.due_at <= now
    is_late = and_(is_due, Chunk.claimed_at.is_not(None))
    query = select(
        func.min(case((is_due, Chunk.due_at))).label("oldest"),
        func.sum(case((is_due, 1), else_=0)).label("due"),
        func.sum(case((is_late, 1), else_=0)).label("late"),
        func.sum(case((is_due, 0), else_=1)).label("leased"),
    ).where(Chunk.due_at.is_not(None))
    return session.execute(query).one(), now


def _workers(session: Session) -> Any:
    is_alive = Worker.seen_at >= db_now(-ALIVE_SECONDS)
    return session.execute(
        select(
            func.sum(case((and_(is_alive, Worker.slots > 0), 1), else_=0)).label("alive"),
            func.sum(case((and_(is_alive, Worker.slots == 0), 1), else_=0)).label("for_reports"),
            func.sum(case((is_alive, 0), else_=1)).label("silent"),
            func.sum(case((is_alive, Worker.slots), else_=0)).label("slots"),
            func.sum(case((is_alive, Worker.in_flight), else_=0)).label("in_flight"),
        )
    ).one()


def queue_lengths() -> dict[str, int] | None:
    """How many messages wait in each queue of the broker; None where it does not answer within about a second."""
    try:
        with health.broker_client() as client:
            return {name: int(client.llen(name)) for name in queues.NAMES}
    except (redis.RedisError, OSError):
        return None
