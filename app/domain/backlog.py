"""How much work may wait: a job that would make it too much is refused, before the database and its users suffer.

What waits is read from the jobs' counters, at most once a second in each process and for at most a twentieth of its
time however many jobs there are; in between what the process itself adds is counted. So the bound is kept to about a
second's worth of jobs.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from flask import current_app
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import QueueFullError
from app.extensions import settings
from app.models import Job, JobState

FRESH_SECONDS = 1.0
MOST_OF_TIME = 0.05


@dataclass
class _Waiting:
    """Open images by owner, as last read."""

    images: dict[int | None, int] = field(default_factory=dict)
    fresh_until: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


def expect_room(session: Session, images: int, owner_id: int | None) -> None:
    """Raises QueueFullError where so many more open images, of this owner, are too many."""
    waiting = _of_this_process()
    with waiting.lock:
        is_fresh = time.monotonic() < waiting.fresh_until
    found = None if is_fresh else _read(session)
    with waiting.lock:
        if found:
            waiting.images, waiting.fresh_until = found
        total, of_owner = sum(waiting.images.values()), waiting.images.get(owner_id, 0)
        _compare(images, total, settings.QUEUE_MAX_IMAGES, "wait")
        if settings.QUEUE_MAX_IMAGES_OF_OWNER and owner_id is not None:
            _compare(images, of_owner, settings.QUEUE_MAX_IMAGES_OF_OWNER, "of this key's owner wait")
        waiting.images[owner_id] = of_owner + images


def _compare(images: int, waiting: int, most: int, what: str) -> None:
    if images and waiting + images > most:
        raise QueueFullError(f"the queue is full: {waiting} images {what}, and at most {most} may; try again later")


def _read(session: Session) -> tuple[dict[int | None, int], float]:
    started = time.monotonic()
    query = select(Job.owner_id, func.sum(Job.images_open)).where(Job.state == JobState.ONGOING).group_by(Job.owner_id)
    images = {owner_id: int(waiting) for owner_id, waiting in session.execute(query)}
    now = time.monotonic()
    return images, now + max(FRESH_SECONDS, (now - started) / MOST_OF_TIME)


def _of_this_process() -> _Waiting:
    found: _Waiting = current_app.extensions.setdefault("backlog", _Waiting())
    return found
