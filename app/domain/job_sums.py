"""What all jobs that the caller sees come to, without reading each of a million of them every few seconds.

Jobs that have ended change no more, but for a retry or a purge: what they come to is remembered in each process. What
is read anew each time are those that were under way then, and the latest. The whole is read again when it is due, by
how long it took; so long a retry or a purge of an old job may go unseen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flask import current_app
from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from app.domain import access
from app.models import Job, JobState

COUNTERS = ("images_total", "images_open", "images_done", "images_failed", "images_cancelled")
# Reading all of it takes at most such a part of the time; what takes less than this is not remembered.
MOST_OF_TIME = 0.02
QUICK_SECONDS = 0.02
MOST_SECONDS = 120.0
# More jobs under way than this are not told apart one by one.
MOST_ONGOING = 1000
MOST_CALLERS = 100
# A job may be committed after others with larger numbers, which so few jobs later are all there.
LATEST = 200


@dataclass(frozen=True, slots=True)
class Sums:
    """Jobs, and their counters in the order of ``COUNTERS``."""

    jobs: int
    images: Sequence[int]

    def plus(self, other: Sums) -> Sums:
        return Sums(self.jobs + other.jobs, [a + b for a, b in zip(self.images, other.images, strict=True)])


@dataclass(frozen=True, slots=True)
class _Ended:
    """What the jobs up to ``last`` came to, but for those that were under way."""

    sums: Sums
    last: int
    ongoing: Sequence[int]
    until: float  # by this process's clock


def read(session: Session) -> Sums:
    """In a snapshot, so that no job is counted twice or not at all."""
    memory: dict[Any, _Ended] = current_app.extensions.setdefault("ended_jobs", {})
    caller = access.current()
    name = None if caller.sees_all else (caller.owner_id,)
    known = memory.get(name)
    if known and time.monotonic() < known.until:
        return known.sums.plus(_sums(session, or_(Job.id > known.last, Job.id.in_(known.ongoing))))
    started = time.monotonic()
    last = (session.scalar(select(func.max(Job.id))) or 0) - LATEST
    under_way = select(Job.id).where(Job.state == JobState.ONGOING, access.is_visible(Job)).limit(MOST_ONGOING + 1)
    ongoing = session.scalars(under_way).all()
    ended = _sums(session, and_(Job.id <= last, Job.state != JobState.ONGOING))
    seconds = time.monotonic() - started
    if seconds >= QUICK_SECONDS and len(ongoing) <= MOST_ONGOING:
        if len(memory) >= MOST_CALLERS:
            memory.clear()
        until = time.monotonic() + min(MOST_SECONDS, seconds / MOST_OF_TIME)
        memory[name] = _Ended(ended, last, ongoing, until)
    return ended.plus(_sums(session, or_(Job.id > last, Job.state == JobState.ONGOING)))


def _sums(session: Session, condition: Any) -> Sums:
    sums = (func.coalesce(func.sum(getattr(Job, name)), 0) for name in COUNTERS)
    jobs, *images = session.execute(select(func.count(), *sums).where(condition, access.is_visible(Job))).one()
    return Sums(jobs, [int(each) for each in images])
