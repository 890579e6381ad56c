"""The only door to the broker: names of queues and tasks, and the functions that ring.

The database is the record of work; a message says no more than "look there". So a lost one costs a few seconds (the
recover loop rings again) and a repeated one costs an empty look.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import structlog
from kombu import Connection
from kombu.exceptions import KombuError
from kombu.pools import producers

from app import processors
from app.extensions import celery
from app.models import JobSource

log = structlog.get_logger()

IMAGES = "images"
REPORTS = "reports"
WORK = "images.work"
BUILD = "reports.build"
# More unheard bells than this wake nobody who is not awake already.
MOST_UNHEARD = 32
# A request that creates a job waits no longer than about a second for a broker that is away.
RING_OPTIONS = {"socket_connect_timeout": 0.5, "socket_timeout": 1.0, "retry_on_timeout": False, "max_retries": 0}


def of_door(source: str) -> str:
    """The queue of those workers that work for one door only (WORKER_SOURCES)."""
    return f"{IMAGES}.{source}"


def of_lane(lane: str) -> str:
    """The queue of those workers that work for one lane only (WORKER_LANES)."""
    return f"{IMAGES}-{lane}"


OF_WORK = (IMAGES, *map(of_door, JobSource), *map(of_lane, sorted(processors.lanes())))
NAMES = (*OF_WORK, REPORTS)  # all queues that there are


def ring(bells: int, *, source: JobSource, lane: str) -> bool:
    """Wake up to ``bells`` worker processes, and as many of those for this door or lane only; after the commit.

    False where the broker is away. A queue that nobody listens to holds ``MOST_UNHEARD`` messages and no more.
    """
    return _ring([IMAGES, of_door(source), of_lane(lane)], WORK, bells)


def ring_all(bells: int = 1) -> bool:
    """Wake up to ``bells`` worker processes of each kind: of whom the work is, is not known. Most look in vain."""
    return _ring(OF_WORK, WORK, bells)


def ring_again() -> bool:
    """Wake a process like this one."""
    return _ring([celery.conf.task_default_queue], WORK, 1)


def ring_builder() -> bool:
    """Wake a worker process for an archive to open, a report to build or a mail to send; call it after the commit."""
    return _ring([REPORTS], BUILD, 1)


def _ring(names: Sequence[str], task: str, bells: int) -> bool:
    connection = _connection()
    try:
        with producers[connection].acquire(block=True, timeout=1) as producer:
            for name in names:
                unheard = producer.channel.queue_declare(queue=name, durable=True).message_count
                for _ in range(min(bells, MOST_UNHEARD - unheard)):
                    celery.signature(task).apply_async(producer=producer, queue=name, retry=False)
    except (KombuError, *connection.connection_errors, *connection.channel_errors) as error:
        log.warning("bell not rung", reason=str(error)[:200])
        return False
    return True


@lru_cache(maxsize=1)
def _connection() -> Connection:
    return Connection(celery.conf.broker_url, transport_options=RING_OPTIONS)
