"""Worker processes tell that they live, and notice when they no longer get anywhere."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from importlib import metadata

import structlog
from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.domain import transactions
from app.errors import UnavailableError
from app.models import Worker
from app.sql import db_now

log = structlog.get_logger()

BEAT_SECONDS = 5.0
# Six missed beats: it is gone, or its database is.
ALIVE_SECONDS = 30.0
FORGOTTEN_SECONDS = 86_400.0


@dataclass(frozen=True)
class Identity:
    """What does not change in a worker's life; ``name`` is what its claims are made under."""

    name: str
    host: str
    pid: int
    slots: int
    version: str


def this_process(slots: int) -> Identity:
    """``slots`` is 0 where it takes no images."""
    host, pid = socket.gethostname()[:80], os.getpid()
    try:
        version = metadata.version("imagejobs")
    except metadata.PackageNotFoundError:  # run from a folder that is not installed, as in the container
        version = "unknown"
    return Identity(f"{host}:{pid}", host, pid, slots, version)


def join(me: Identity) -> None:
    """Write this process's row anew: another process may have had its name, a container's always has."""
    row = {"name": me.name, "host": me.host, "pid": me.pid, "slots": me.slots, "version": me.version}
    now = {"started_at": db_now(), "seen_at": db_now(), "progressed_at": db_now()}

    def work(session: Session) -> None:
        session.execute(delete(Worker).where(Worker.name == me.name))
        session.execute(insert(Worker).values(**row, **now, in_flight=0, settled=0))

    transactions.run(work)


def beat(name: str, *, in_flight: int, settled: int, rate: float = 0.0) -> bool:
    """Tell that this process lives; False where its row is gone. One write by primary key.

    ``rate`` is in results a second, by the process's own clock, since the beat before.
    """
    has_progressed = or_(Worker.settled != settled, in_flight == 0)  # type: ignore[arg-type]

    def work(session: Session) -> bool:
        values = {"seen_at": db_now(), "in_flight": in_flight, "settled": settled, "rate": rate}
        of_me = update(Worker).where(Worker.name == name)
        session.execute(of_me.where(has_progressed).values(progressed_at=db_now()))
        return bool(session.execute(of_me.values(**values)).rowcount)  # type: ignore[attr-defined]

    return transactions.run(work)


def leave(name: str) -> None:
    """This process ends in good order."""
    transactions.run(lambda session: session.execute(delete(Worker).where(Worker.name == name)))


def tell(me: Identity, *, in_flight: int = 0, settled: int = 0, rate: float = 0.0, is_last: bool = False) -> bool:
    """A beat, for the first time or after a silence ``join``, at the end ``leave``; False where none was noted."""
    try:
        if is_last:
            leave(me.name)
        elif not beat(me.name, in_flight=in_flight, settled=settled, rate=rate):
            join(me)
    except (UnavailableError, DBAPIError) as error:
        # Nobody is served worse because a row is missing.
        log.warning("worker not noted", reason=str(error)[:200])
        return False
    return True


def find() -> list[tuple[Worker, bool]]:
    """All workers, those seen last first, and whether each lives."""
    is_alive = Worker.seen_at >= db_now(-ALIVE_SECONDS)
    query = select(Worker, is_alive).order_by(Worker.seen_at.desc())
    return [(worker, bool(alive)) for worker, alive in transactions.read(lambda session: session.execute(query).all())]


def forget() -> None:
    """Delete the rows of workers that have not been seen for a day."""
    gone = delete(Worker).where(Worker.seen_at < db_now(-FORGOTTEN_SECONDS))
    transactions.run(lambda session: session.execute(gone))


class Pace:
    """How fast a worker's count of results grows."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._settled = 0

    def since_last(self, settled: int) -> float:
        """Results a second since it was last asked."""
        now = time.monotonic()
        seconds, grown = now - self._at, settled - self._settled
        self._at, self._settled = now, settled
        return grown / seconds if seconds > 0 else 0.0


class Progress:
    """Whether a worker gets anywhere, asked once a beat.

    Beats are counted instead of seconds: a process that was frozen, or whose database was away, has missed them.
    """

    def __init__(self, most_seconds: float) -> None:
        self._most_beats = most_seconds / BEAT_SECONDS
        self._beats = 0
        self._settled = 0

    def is_stuck(self, *, is_holding: bool, settled: int) -> bool:
        """True once it has held work for too many beats in a row without a single result written."""
        is_moving = not is_holding or settled != self._settled
        self._beats = 0 if is_moving else self._beats + 1
        self._settled = settled
        return self._beats >= self._most_beats
