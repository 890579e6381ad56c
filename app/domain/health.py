"""Whether what the service leans on answers."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import select

from app import broker
from app.domain import transactions
from app.errors import StorageError
from app.extensions import settings, storage
from app.sql import db_now

PING_SECONDS = 0.5


def check_database() -> None:
    """Raises UnavailableError where the database does not answer."""
    transactions.read(lambda session: session.execute(select(db_now())).one())


def has_broker() -> bool:
    """Whether the broker answers a ping within about a second."""
    try:
        with broker_client() as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def has_storage() -> bool:
    """Whether files can be read and written, as far as can be told within some seconds without writing one."""
    try:
        storage.check()
    except StorageError:
        return False
    return True


def broker_client() -> redis.Redis:
    """A client of the broker that gives up within about a second; close it."""
    return redis.Redis.from_url(
        broker.client_url(settings.REDIS_URL, settings.DATA_DIR),
        socket_connect_timeout=PING_SECONDS,
        socket_timeout=PING_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
