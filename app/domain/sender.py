"""The sending part of webhooks: what is due is posted, several at once, and what came of it is written down.

One thread claims and writes, each message has a thread of its own while it is on its way. Each host begins with one
message at a time; every good and quick answer doubles that, up to ``WEBHOOK_SENDS_A_HOST``, and one that is neither
takes it back to one. So a host that hangs keeps nobody else waiting.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError

from app import signatures, times
from app.domain import deliveries, messages
from app.domain.deliveries import Due, Sent
from app.domain.outcomes import RetryPolicy
from app.errors import FetchError, UnavailableError
from app.extensions import settings
from app.fetching.posts import Answered, PostLimits, Posts
from app.models import DeliveryState

log = structlog.get_logger()

LOOK_SECONDS = 1.0
DATABASE_AWAY_SECONDS = 1.0
# Beyond what one try may take: for the lookup of its name, and a database that is away for a moment.
LEASE_MARGIN_SECONDS = 60.0
# On their way when it is told to stop, messages have this long; supervisors should wait 35 s before they kill.
STOP_SECONDS = 25.0
FORGET_SECONDS = 3600.0
QUICK_SECONDS = 3.0
TRIES_KEPT = 20
GONE = 410


def run(stop: threading.Event) -> None:
    """Send what is due until ``stop`` is set; survives a database that is away. Two at once are harmless."""
    Sender().run(stop)


@dataclass(frozen=True, slots=True)
class _Came:
    """What became of one message on its way."""

    due: Due
    at: float  # monotonic
    seconds: float
    answer: Answered | FetchError


class Sender:
    """Everything on the thread in ``run``, but ``_post``."""

    def __init__(self) -> None:
        self._posts = Posts(
            PostLimits(
                timeout_seconds=settings.WEBHOOK_TIMEOUT_SECONDS,
                connect_timeout_seconds=min(settings.FETCH_CONNECT_TIMEOUT_SECONDS, settings.WEBHOOK_TIMEOUT_SECONDS),
                connections=settings.WEBHOOK_SENDS,
                max_url_bytes=settings.FETCH_MAX_URL_BYTES,
                ca_bundle=settings.FETCH_CA_BUNDLE or None,
                allowed_networks=settings.allowed_networks,
            )
        )
        self._policy = RetryPolicy(
            settings.WEBHOOK_ATTEMPTS, settings.WEBHOOK_RETRY_BASE_SECONDS, settings.WEBHOOK_RETRY_MAX_SECONDS
        )
        self._most, self._most_a_host = settings.WEBHOOK_SENDS, settings.WEBHOOK_SENDS_A_HOST
        self._lease_seconds = settings.WEBHOOK_TIMEOUT_SECONDS + LEASE_MARGIN_SECONDS
        self._on_way: Counter[str] = Counter()  # by host
        self._allowed: dict[str, int] = {}  # by host, how many at once; one unless it stands here
        self._came: queue.SimpleQueue[_Came] = queue.SimpleQueue()
        self._unwritten: list[Sent] = []
        self._forgotten_at = time.monotonic() - FORGET_SECONDS

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._write()
                is_any_left = self._begin()
                self._forget()
            except (UnavailableError, DBAPIError) as error:
                log.warning("nothing sent", reason=str(error)[:200], unwritten=len(self._unwritten))
                stop.wait(DATABASE_AWAY_SECONDS)
                is_any_left = False
            self._take_in(0 if is_any_left else LOOK_SECONDS)
        self._end()

    def _begin(self) -> bool:
        """Send what is due, as far as there is room; True where there may be more that could be sent at once."""
        room = self._most - self._on_way.total()
        if room <= 0:
            return False
        claimed = deliveries.claim(
            uuid.uuid4().hex,
            most=room,
            full_hosts=[host for host in self._on_way if self._room_of(host) <= 0],
            room_of=self._room_of,
            lease_seconds=self._lease_seconds,
        )
        claimed_at = time.monotonic()
        for due in claimed:
            if due.url is None:
                self._unwritten.append(_given_up(due))
                continue
            self._on_way[due.delivery.host] += 1
            threading.Thread(target=self._post, args=(due, due.url, claimed_at), daemon=True).start()
        return bool(claimed)

    def _room_of(self, host: str) -> int:
        return self._allowed.get(host, 1) - self._on_way[host]

    def _post(self, due: Due, url: str, claimed_at: float) -> None:
        """On a thread of its own."""
        started = time.monotonic()
        answer: Answered | FetchError
        try:
            body = messages.body(due.delivery, due.metadata)
            # By the database's clock: receivers compare it with theirs, and this host's may be off.
            at = (due.now.replace(tzinfo=UTC) + timedelta(seconds=started - claimed_at)).timestamp()
            headers = signatures.headers(messages.message_id(due.delivery), int(at), body, due.secrets)
            answer = self._posts.send(url, body, {"Content-Type": "application/json"} | headers)
        except FetchError as error:
            answer = error
        except Exception as error:  # whatever it is, it must not be tried without end
            log.error("message not sendable", delivery_id=due.delivery.id, exc_info=error)
            answer = FetchError("internal_error", "The message could not be made; the log says why.")
        now = time.monotonic()
        self._came.put(_Came(due, now - claimed_at, now - started, answer))

    def _take_in(self, seconds: float) -> None:
        """Wait for a message that has come to something, and take the others that have along."""
        try:
            came = self._came.get(timeout=seconds) if seconds else self._came.get_nowait()
            while True:
                self._conclude(came)
                came = self._came.get_nowait()
        except queue.Empty:
            pass

    def _conclude(self, came: _Came) -> None:
        host = came.due.delivery.host
        self._on_way[host] -= 1
        if not self._on_way[host]:
            del self._on_way[host]
        sent = self._sent(came)
        self._judge(host, is_well=sent.state is DeliveryState.DELIVERED and came.seconds < QUICK_SECONDS)
        self._unwritten.append(sent)
        log.info(
            "message delivered" if sent.state is DeliveryState.DELIVERED else "message not delivered",
            delivery_id=came.due.delivery.id,
            webhook_id=came.due.delivery.webhook_id,
            host=host,
            reason=sent.error,
            seconds=round(came.seconds, 3),
        )

    def _judge(self, host: str, *, is_well: bool) -> None:
        if is_well:
            self._allowed[host] = min(2 * self._allowed.get(host, 1), self._most_a_host)
        else:
            self._allowed.pop(host, None)

    def _sent(self, came: _Came) -> Sent:
        due, answer = came.due, came.answer
        if isinstance(answer, Answered):
            error = None if 200 <= answer.status < 300 else f"http_{answer.status}"
            status, message, retry_after = answer.status, answer.excerpt, answer.retry_after
        else:
            error, status, message, retry_after = answer.code, None, answer.message, None
        at = due.now + timedelta(seconds=came.at - came.seconds)
        told = {"status": status, "error": error, "message": message}
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        tries = _with(due, at=times.rfc3339(at), seconds=round(came.seconds, 3), **told)
        if error is None:
            return Sent(due, DeliveryState.DELIVERED, tries)
        attempt = due.delivery.attempts - due.delivery.attempts_before + 1
        is_gone = status == GONE
        if is_gone or attempt >= self._policy.attempts:
            return Sent(due, DeliveryState.FAILED, tries, error, is_gone=is_gone)
        delay = self._policy.delay_seconds(attempt, retry_after)
        return Sent(due, DeliveryState.PENDING, tries, error, delay_seconds=delay)

    def _write(self) -> None:
        if self._unwritten:
            deliveries.settle(self._unwritten)
            self._unwritten = []

    def _forget(self) -> None:
        if time.monotonic() - self._forgotten_at >= FORGET_SECONDS:
            deliveries.forget()
            self._forgotten_at = time.monotonic()

    def _end(self) -> None:
        """Wait for what is on its way, and write that down; what takes too long is sent again under the same id."""
        deadline = time.monotonic() + STOP_SECONDS
        while self._on_way and (left := deadline - time.monotonic()) > 0:
            self._take_in(left)
        try:
            self._write()
        except (UnavailableError, DBAPIError) as error:
            log.warning("results of messages lost", reason=str(error)[:200], results=len(self._unwritten))
        self._posts.close()


def _given_up(due: Due) -> Sent:
    tries = _with(due, at=times.rfc3339(due.now), seconds=0, status=None, error="not_sent", message=due.reason)
    return Sent(due, DeliveryState.FAILED, tries, is_attempt=False)


def _with(due: Due, **this_try: Any) -> list[dict[str, Any]]:
    earlier: Sequence[dict[str, Any]] = due.delivery.tries or ()
    return [*earlier, this_try][-TRIES_KEPT:]
