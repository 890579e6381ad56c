"""Whose turn it is: queues by host, an adaptive cap and a circuit breaker each. Pure logic, the clock is passed in.

A host that fails or dawdles loses transfers to the others; a healthy one may have them all.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Any

from app.errors import FetchError
from app.fetching import codes

FIRST_CAP = 16
STALL_SECONDS = 2.0
STALL_QUEUE = 64
HOLD_BACK_SECONDS = 5.0
BREAK_AFTER_FAILURES = 10
BREAK_SECONDS = 5.0
BREAK_MOST_SECONDS = 60.0
MOST_HOSTS = 10_000
# Hosts without a success since their last failure have at most this share of all transfers together.
UNPROVEN_SHARE = 0.75


class Verdict(Enum):
    """What an end of a transfer says of its host."""

    GOOD = "it answered"
    BAD = "it failed, or is overloaded"
    NEUTRAL = "nothing either way"


class Host:
    """One host's queue and standing."""

    __slots__ = (
        "active",
        "cap",
        "failures",
        "half_open_at",
        "is_proven",
        "is_reachable",
        "is_ringed",
        "is_stalled",
        "key",
        "last_code",
        "open_seconds",
        "progressed_at",
        "queue",
        "ready",
    )

    def __init__(self, key: Any, cap: int) -> None:
        self.key = key
        self.queue: deque[Any] = deque()
        self.cap = cap
        self.active = 0
        self.ready = 0  # of the queue, those that do not wait because of the host's own cap
        self.failures = 0  # in a row
        self.last_code = ""
        self.open_seconds = 0.0  # how long the breaker was opened for; 0 while it is closed
        self.half_open_at = 0.0
        self.progressed_at = 0.0
        self.is_proven = False  # has succeeded since its last failure
        self.is_stalled = False  # nothing has come to an end for STALL_SECONDS
        self.is_reachable = True  # its addresses are known
        self.is_ringed = False

    @property
    def standing(self) -> int:
        """From 0 to 3, where transfers of hosts that stand alike are counted."""
        return 2 * self.is_proven + self.is_stalled

    @property
    def limit(self) -> int:
        """How many transfers it may have; one probe while its breaker is half open."""
        return 1 if self.open_seconds else self.cap

    @property
    def is_idle(self) -> bool:
        return not self.active and not self.queue


class Hosts:
    """All hosts. Items that are not to be started come out in ``take_rejected``."""

    def __init__(self, downloads: int, clock: Callable[[], float]) -> None:
        self._downloads = downloads
        self._clock = clock
        self._hosts: dict[Hashable, Host] = {}
        self._busy: set[Host] = set()
        self._rings: tuple[deque[Host], deque[Host]] = (deque(), deque())  # whose turn is next: unproven, proven
        self._is_provens_turn = False
        self._load = [0, 0, 0, 0]  # transfers by ``Host.standing``
        self._rejected: list[tuple[Any, FetchError | float]] = []
        self.queued = 0
        self.ready = 0

    @property
    def active(self) -> int:
        return sum(self._load)

    def __len__(self) -> int:
        return len(self._hosts)

    def find(self, key: Hashable) -> Host:
        """The host of this key; a new one starts with FIRST_CAP."""
        host = self._hosts.get(key)
        if host is None:
            if len(self._hosts) >= MOST_HOSTS:
                self._drop_idle()
            host = self._hosts[key] = Host(key, min(FIRST_CAP, self._downloads))
        return host

    def add(self, host: Host, item: Any, *, is_first: bool = False) -> None:
        """Queue an item, or reject it where the host's breaker is open or the host has stalled with a long queue."""
        if self._is_open(host):
            self._rejected.append((item, self._broken(host)))
        elif host.is_stalled and len(host.queue) >= STALL_QUEUE and not is_first:
            self._rejected.append((item, _hold_back_seconds()))
        else:
            if is_first:
                host.queue.appendleft(item)
            else:
                host.queue.append(item)
            self.queued += 1
            self._refresh(host)

    def take(self) -> tuple[Host, Any] | None:
        """The next item to start, hosts in turn; None while no transfer is free or nothing may start."""
        self._is_provens_turn = not self._is_provens_turn
        for is_proven in (self._is_provens_turn, not self._is_provens_turn):
            if self._has_transfer(is_proven) and (host := self._next_host(is_proven)):
                return host, self._start(host)
        return None

    def finish(self, host: Host, verdict: Verdict, code: str = "") -> None:
        """An item of this host came to an end; ``code`` is its error's, for those who are rejected because of it."""
        self._count(host, -1)
        if not host.active:
            self._busy.discard(host)
        host.progressed_at = self._clock()
        is_good = verdict is Verdict.GOOD
        self._stand(host, is_proven=is_good or host.is_proven, is_stalled=False)
        if is_good:
            host.failures, host.open_seconds = 0, 0.0
            if host.cap < self._downloads:
                host.cap += 1
        elif verdict is Verdict.BAD:
            self._fail(host, code)
        self._refresh(host)

    def set_reachable(self, host: Host, is_reachable: bool) -> None:
        """While it is False nothing of the host is started."""
        host.is_reachable = is_reachable
        self._refresh(host)

    def put_back(self, host: Host, item: Any) -> None:
        """Undo ``take``."""
        self._count(host, -1)
        if not host.active:
            self._busy.discard(host)
        host.queue.appendleft(item)
        self.queued += 1
        self._refresh(host)

    def drain(self, host: Host) -> list[Any]:
        """Take everything out of the host's queue."""
        items = list(host.queue)
        host.queue.clear()
        self.queued -= len(items)
        self._refresh(host)
        return items

    def forget(self, predicate: Callable[[Any], bool]) -> list[Any]:
        """Take the queued items out for which ``predicate`` is true."""
        forgotten = []
        for host in self._hosts.values():
            if host.queue:
                items = self.drain(host)
                kept = [item for item in items if not predicate(item)]
                forgotten += [item for item in items if predicate(item)]
                host.queue.extend(kept)
                self.queued += len(kept)
                self._refresh(host)
        return forgotten

    def sweep(self) -> None:
        """See which hosts have stalled, and reject what waits for them beyond STALL_QUEUE; a few times a second."""
        late = self._clock() - STALL_SECONDS
        for host in self._busy:
            if not host.is_stalled and host.progressed_at < late:
                self._stand(host, is_proven=host.is_proven, is_stalled=True)
                self._refresh(host)
            if host.is_stalled and host.active >= host.limit and len(host.queue) > STALL_QUEUE:
                for _ in range(len(host.queue) - STALL_QUEUE):
                    self._rejected.append((host.queue.pop(), _hold_back_seconds()))
                    self.queued -= 1
                self._refresh(host)

    def take_rejected(self) -> list[tuple[Any, FetchError | float]]:
        """Items that are not started: with an error, or with the seconds after which to ask again."""
        rejected, self._rejected = self._rejected, []
        return rejected

    def _start(self, host: Host) -> Any:
        if not host.active:
            host.progressed_at = self._clock()
            self._busy.add(host)
        self._count(host, 1)
        item = host.queue.popleft()
        self.queued -= 1
        self._refresh(host)
        return item

    def _has_transfer(self, is_proven: bool) -> bool:
        # Transfers of stalled hosts do not count against the usual number, or one host that falls silent after it
        # had them all would stop everybody; in all there are at most twice as many.
        unproven, unproven_stalled, proven, proven_stalled = self._load
        most, live = self._downloads, unproven + proven
        if live >= most or live + unproven_stalled + proven_stalled >= 2 * most:
            return False
        share = max(1, most * UNPROVEN_SHARE)
        return is_proven or (unproven < share and unproven + unproven_stalled < 2 * share)

    def _next_host(self, is_proven: bool) -> Host | None:
        ring = self._rings[is_proven]
        while ring:
            host = ring.popleft()
            host.is_ringed = False
            if not host.ready or host.active >= host.limit:
                continue  # it comes back with ``_refresh`` once one of its transfers has ended
            if host.is_proven == is_proven:
                return host
            self._refresh(host)
        return None

    def _refresh(self, host: Host) -> None:
        ready = self._count_ready(host)
        self.ready += ready - host.ready
        host.ready = ready
        if ready and not host.is_ringed and host.active < host.limit:
            host.is_ringed = True
            self._rings[host.is_proven].append(host)

    def _count_ready(self, host: Host) -> int:
        if not host.is_reachable:
            return 0
        if host.limit >= self._downloads and not host.is_stalled:
            return len(host.queue)  # it may have all transfers: nothing waits because of its own cap
        return max(0, min(len(host.queue), host.limit - host.active))

    def _count(self, host: Host, change: int) -> None:
        host.active += change
        self._load[host.standing] += change

    def _stand(self, host: Host, *, is_proven: bool, is_stalled: bool) -> None:
        if host.is_proven is is_proven and host.is_stalled is is_stalled:
            return  # as nearly always
        self._load[host.standing] -= host.active
        host.is_proven, host.is_stalled = is_proven, is_stalled
        self._load[host.standing] += host.active

    def _fail(self, host: Host, code: str) -> None:
        self._stand(host, is_proven=False, is_stalled=host.is_stalled)
        if self._is_open(host):
            return  # a straggler from before the breaker opened
        host.failures += 1
        host.last_code = code
        host.cap = max(1, host.cap // 2)
        if host.open_seconds or host.failures >= BREAK_AFTER_FAILURES:
            host.open_seconds = min(host.open_seconds * 2 or BREAK_SECONDS, BREAK_MOST_SECONDS)
            host.half_open_at = self._clock() + host.open_seconds
            error = self._broken(host)
            self._rejected.extend((item, error) for item in self.drain(host))

    def _is_open(self, host: Host) -> bool:
        return host.open_seconds > 0 and self._clock() < host.half_open_at

    def _broken(self, host: Host) -> FetchError:
        left = max(0.0, host.half_open_at - self._clock())
        return codes.error(
            host.last_code,
            f"Not tried: the host is being held back after {host.failures} failures in a row ({host.last_code}).",
            retry_after=left,
        )

    def _drop_idle(self) -> None:
        """Forget the oldest tenth of the hosts that have nothing to do, those with an open breaker excepted."""
        idle = [
            host.key for host in self._hosts.values() if host.is_idle and not host.is_ringed and not self._is_open(host)
        ]
        for key in idle[: max(1, MOST_HOSTS // 10)]:
            del self._hosts[key]


def _hold_back_seconds() -> float:
    return HOLD_BACK_SECONDS * random.uniform(0.8, 1.2)
