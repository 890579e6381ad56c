"""How many requests somebody has made in the running window, counted in Redis by all processes together.

Each count is one round trip. While Redis is away each process counts for itself, and looks for it again after a pause
that grows; so a request waits at most ``ANSWER_SECONDS`` for it now and then, and none is refused because of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import redis
import structlog
from flask import current_app
from redis.backoff import NoBackoff
from redis.retry import Retry

from app import broker
from app.extensions import settings

log = structlog.get_logger()

PREFIX = "imagejobs:rate:"
ANSWER_SECONDS = 0.25
LEAST_PAUSE_SECONDS = 1.0
MOST_PAUSE_SECONDS = 30.0
MOST_NAMES = 10_000


class Rate(NamedTuple):
    """At most ``most`` requests in ``seconds``."""

    most: int
    seconds: int


class Count(NamedTuple):
    """``used`` of the window, this request included; it is over in ``seconds_left``."""

    used: int
    seconds_left: float


def count(name: str, rate: Rate) -> Count:
    """Count one request of whoever is called ``name``."""
    counter: Counter | None = current_app.extensions.get("rates")
    if counter is None:
        # At the first request and not before: connections are not to be shared with a process that forks.
        url = broker.client_url(settings.REDIS_URL, settings.DATA_DIR)
        counter = current_app.extensions.setdefault("rates", Counter(url))
    return counter.count(name, rate.seconds)


class Counter:
    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._memory = Memory()
        self._pause = LEAST_PAUSE_SECONDS
        self._away_until = 0.0

    def count(self, name: str, seconds: int) -> Count:
        if time.monotonic() < self._away_until:
            return self._memory.count(name, seconds)
        try:
            counted = self._count_in_redis(PREFIX + name, seconds)
        except (redis.RedisError, OSError) as error:
            log.warning("requests counted in memory", reason=str(error)[:200], seconds=self._pause)
            self._away_until = time.monotonic() + self._pause
            self._pause = min(MOST_PAUSE_SECONDS, 2 * self._pause)
            return self._memory.count(name, seconds)
        self._pause = LEAST_PAUSE_SECONDS
        return counted

    def _count_in_redis(self, name: str, seconds: int) -> Count:
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(name, 0, ex=seconds, nx=True)
            pipeline.incr(name)
            pipeline.pttl(name)
            _, used, left = pipeline.execute()
        if left < 0:
            # It ended between two of the three, and came back without an end.
            self._redis.expire(name, seconds)
            left = 1000 * seconds
        return Count(int(used), left / 1000)


class Memory:
    """The same for one process, for a bounded number of names."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def count(self, name: str, seconds: int) -> Count:
        now = self._clock()
        with self._lock:
            used, until = self._windows.get(name, (0, 0.0))
            if until <= now:
                used, until = 0, now + seconds
                self._make_room(now)
            self._windows[name] = (used + 1, until)
        return Count(used + 1, until - now)

    def _make_room(self, now: float) -> None:
        if len(self._windows) < MOST_NAMES:
            return
        self._windows = {name: window for name, window in self._windows.items() if window[1] > now}
        if len(self._windows) >= MOST_NAMES:  # so many at once are made up: none of them is worth remembering
            self._windows.clear()
