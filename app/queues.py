"""The only door to the broker: names of queues and tasks, and the one function that rings.

The database is the record of work; a message says no more than "look there". So a lost one costs a few seconds (the
recover loop rings again) and a repeated one costs an empty look.
"""

from __future__ import annotations

from functools import lru_cache

import structlog
from kombu import Connection
from kombu.exceptions import KombuError
from kombu.pools import producers

from app.extensions import celery

log = structlog.get_logger()

IMAGES = "images"
NAMES = (IMAGES,)  # all queues that there are
WORK = "images.work"
# More unheard bells than this wake nobody who is not awake already.
MOST_UNHEARD = 32
# A request that creates a job waits no longer than about a second for a broker that is away.
RING_OPTIONS = {"socket_connect_timeout": 0.5, "socket_timeout": 1.0, "retry_on_timeout": False, "max_retries": 0}


def ring(bells: int = 1) -> bool:
    """Wake up to ``bells`` worker processes; call it after the commit. False where the broker is away."""
    connection = _connection()
    try:
        with producers[connection].acquire(block=True, timeout=1) as producer:
            unheard = producer.channel.queue_declare(queue=IMAGES, durable=True).message_count
            for _ in range(min(bells, MOST_UNHEARD - unheard)):
                celery.signature(WORK).apply_async(producer=producer, queue=IMAGES, retry=False)
    except (KombuError, *connection.connection_errors, *connection.channel_errors) as error:
        log.warning("bell not rung", reason=str(error)[:200])
        return False
    return True


@lru_cache(maxsize=1)
def _connection() -> Connection:
    return Connection(celery.conf.broker_url, transport_options=RING_OPTIONS)
