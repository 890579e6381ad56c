"""One use case, one transaction: whole transactions are retried where the database asks for it.

Helpers never commit. Whatever ``work`` does must be harmless when it runs again after a COMMIT whose answer was lost;
each use case says in its docstring how.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from app.errors import UnavailableError
from app.extensions import db

log = structlog.get_logger()
Result = TypeVar("Result")

MOST_ATTEMPTS = 5
# MySQL: lock wait, deadlock, server gone, connection lost (before, during and after a statement), killed, going down,
# cannot connect, too many connections, read only while failing over.
TRANSIENT_CODES = {1205, 1213, 2006, 2013, 2055, 4031, 1927, 1053, 2002, 2003, 1040, 1290}
BLOCKED_MARKS = ("database is locked", "database table is locked")  # SQLite, past its busy timeout


def run(work: Callable[[Session], Result], *, is_snapshot: bool = False) -> Result:
    """Do ``work`` in one write transaction and commit it; again, at most five times, where it failed in passing.

    With ``is_snapshot`` it reads the database as it was at its first query. Raises UnavailableError when the database
    stays away.
    """
    return _attempt(work, is_write=True, **(_snapshot_options() if is_snapshot else {}))


def read(work: Callable[[Session], Result]) -> Result:
    """Do ``work`` in one read transaction; the same retries and errors as ``run``."""
    return _attempt(work, is_write=False)


def snapshot(work: Callable[[Session], Result]) -> Result:
    """``read`` where all of ``work``'s queries see the database as it was at the first of them."""
    return _attempt(work, is_write=False, **_snapshot_options())


def _snapshot_options() -> dict[str, Any]:
    # SQLite's transactions are like that anyway.
    return {"isolation_level": "REPEATABLE READ"} if db.engine.dialect.name == "mysql" else {}


def _attempt(work: Callable[[Session], Result], **options: Any) -> Result:
    session: Session = db.session()
    for attempt in range(1, MOST_ATTEMPTS + 1):
        try:
            return _once(session, work, options)
        except (DBAPIError, PoolTimeoutError) as error:
            if not is_transient(error):
                raise
            if attempt == MOST_ATTEMPTS or isinstance(error, PoolTimeoutError):
                raise UnavailableError("the database does not answer") from error
            log.warning("transaction retried", attempt=attempt, reason=_reason(error))
            time.sleep(random.uniform(0.5, 1) * 0.05 * 2**attempt)
    raise AssertionError("unreachable")


def _once(session: Session, work: Callable[[Session], Result], options: dict[str, Any]) -> Result:
    try:
        session.connection(execution_options=options)
        result = work(session)
        if options["is_write"]:
            session.commit()
        return result
    finally:
        session.close()  # rolls back what was not committed; what was read stays readable


def is_transient(error: Exception) -> bool:
    """Whether the same transaction may succeed when it is tried again."""
    if isinstance(error, PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError) or error.orig is None:
        return False
    arguments = error.orig.args
    if error.connection_invalidated or (arguments and arguments[0] in TRANSIENT_CODES):
        return True
    return isinstance(error, OperationalError) and any(mark in str(error.orig) for mark in BLOCKED_MARKS)


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", error))[:200]
