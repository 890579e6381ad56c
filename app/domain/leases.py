"""Pieces of work that are rows with ``due_at``, ``claim`` and ``attempts``: uploads to open, reports to build.

The same rules as for chunks: a claim is a lease by the database's clock, its number is the token that every later
write names, and a worker that dies is followed by another once the lease has run out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import inspect, select, update
from sqlalchemy.orm import Session

from app.domain import transactions
from app.errors import ImagejobsError
from app.extensions import settings
from app.sql import db_now

# Without progress. A piece of work that kills or fails each worker must not be begun for ever.
MOST_ATTEMPTS = 5


class LeaseLostError(ImagejobsError):
    """Somebody else works on it by now: what is done here counts no more."""


@dataclass(frozen=True, slots=True)
class Lease:
    """``row`` is as it was before the claim, but for ``attempts``, which counts this one."""

    row: Any
    token: int

    @property
    def _is_held(self) -> Any:
        model = type(self.row)
        (key,) = inspect(model).primary_key
        return (key == getattr(self.row, key.name)) & (model.claim == self.token)

    @property
    def is_hopeless(self) -> bool:
        """Whether so many have begun with it already, and died at it."""
        attempts: int = self.row.attempts
        return attempts > MOST_ATTEMPTS

    def write(self, session: Session, **values: Any) -> None:
        """Change the row within a transaction. Raises LeaseLostError, and nothing is to be committed then."""
        statement = update(type(self.row)).where(self._is_held).values(**values)
        done = session.execute(statement.execution_options(synchronize_session=False))
        if not done.rowcount:  # type: ignore[attr-defined]
            raise LeaseLostError

    def renew(self, **values: Any) -> None:
        """Push the end of the lease on. Raises LeaseLostError, UnavailableError."""
        transactions.run(lambda session: self.write(session, due_at=db_now(settings.LEASE_SECONDS), **values))

    def give_back(self, *, delay_seconds: float, **values: Any) -> None:
        """Leave it to whoever comes after the delay. Raises LeaseLostError, UnavailableError."""
        transactions.run(lambda session: self.write(session, due_at=db_now(delay_seconds), **values))

    def put_off(self, *, retry_seconds: float, give_up: Callable[[], None]) -> None:
        """Leave it for a while, longer each time; where it was tried often enough, ``give_up`` ends it.

        Harmless where the lease is lost. Raises UnavailableError.
        """
        with suppress(LeaseLostError):
            if self.row.attempts >= MOST_ATTEMPTS:
                give_up()
            else:
                self.give_back(delay_seconds=retry_seconds * self.row.attempts)


def claim(model: Any, *conditions: Any) -> Lease | None:
    """Lease the row under these conditions that has been due for longest; None where none is.

    Row lock: the row; those that are locked are skipped. After a COMMIT whose answer was lost it claims again; what
    the first claim took comes back when its lease ends.
    """
    return transactions.run(lambda session: _claim(session, model, conditions))


def _claim(session: Session, model: Any, conditions: Any) -> Lease | None:
    due = select(model).where(model.due_at <= db_now(), *conditions).order_by(model.due_at).limit(1)
    row = session.scalars(due.with_for_update(skip_locked=True)).first()
    if row is None:
        return None
    token, row.attempts = row.claim + 1, row.attempts + 1
    session.expunge(row)
    lease = Lease(row, token)
    (key,) = inspect(model).primary_key
    session.execute(
        update(model)
        .where(key == getattr(row, key.name))
        .values(due_at=db_now(settings.LEASE_SECONDS), claim=token, attempts=row.attempts)
        .execution_options(synchronize_session=False)
    )
    return lease
