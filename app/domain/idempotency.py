"""An Idempotency-Key names a request: whatever it did is done once, however often the request is sent.

A use case asks ``recall`` first and tells ``remember`` what it came to, both in its own transaction, and is run by
``run``. Keys are forgotten after ``IDEMPOTENCY_HOURS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import and_, delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.domain import access, transactions
from app.errors import ConflictError
from app.extensions import settings
from app.models import IdempotencyKey
from app.sql import db_now

MOST_RACES = 3
MOST_FORGOTTEN_AT_ONCE = 1000
HOUR_SECONDS = 3600.0
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The client's name for a request, and the digest of what it asked for: method, address and body."""

    key: str
    request_sha256: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the first request with a key came to."""

    job_id: int  # 0: it was about no job
    answer: dict[str, Any]


def run(work: Callable[[Session], Result]) -> Result:
    """``transactions.run``, again where another request with the same key was faster: then ``work`` recalls that."""
    for _ in range(MOST_RACES):
        try:
            return transactions.run(work)
        except IntegrityError:
            pass  # by now the other one has committed
    return transactions.run(work)


def recall(session: Session, idempotency: Idempotency | None) -> Remembered | None:
    """What an earlier request with this key came to. Raises ConflictError where that was another request."""
    if not idempotency:
        return None
    has_key = and_(IdempotencyKey.owner_id == _owner(), IdempotencyKey.key == idempotency.key)
    session.execute(
        delete(IdempotencyKey)
        .where(has_key, IdempotencyKey.created_at < _oldest())
        .execution_options(synchronize_session=False)
    )
    first = session.scalars(select(IdempotencyKey).where(has_key)).first()
    if first is None:
        return None
    if first.request_sha256 != idempotency.request_sha256:
        made = f", for job {first.job_id}" if first.job_id else ""
        raise ConflictError(f"Idempotency-Key: used before with another body or address{made}")
    return Remembered(first.job_id, first.answer or {})


def remember(
    session: Session, idempotency: Idempotency | None, job_id: int, answer: dict[str, Any] | None = None
) -> None:
    """Write the key down. A second transaction with the same key waits here, and then raises IntegrityError."""
    if not idempotency:
        return
    row = {"key": idempotency.key, "request_sha256": idempotency.request_sha256, "job_id": job_id}
    if answer is not None:  # a None would be stored as JSON's null
        row["answer"] = answer
    session.connection().execute(insert(IdempotencyKey).values(owner_id=_owner(), created_at=db_now(), **row))


def forget() -> None:
    """Delete keys older than ``IDEMPOTENCY_HOURS``, in slices that lock little."""
    while transactions.run(_forget_some) == MOST_FORGOTTEN_AT_ONCE:
        pass


def _forget_some(session: Session) -> int:
    old = session.execute(
        select(IdempotencyKey.owner_id, IdempotencyKey.key)
        .where(IdempotencyKey.created_at < _oldest())
        .limit(MOST_FORGOTTEN_AT_ONCE)
    ).all()
    for owner_id, key in old:
        is_old = and_(IdempotencyKey.owner_id == owner_id, IdempotencyKey.key == key)
        session.execute(delete(IdempotencyKey).where(is_old, IdempotencyKey.created_at < _oldest()))
    return len(old)


def _owner() -> int:
    """Two owners may use the same key, for different requests."""
    return access.current().owner_id or access.NO_OWNER


def _oldest() -> Any:
    return db_now(-settings.IDEMPOTENCY_HOURS * HOUR_SECONDS)
