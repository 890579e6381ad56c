"""The moving part of the pump: images are downloaded, read and paused on one thread, hundreds at once.

A pausing image holds no body: it is dropped once the processors have read it.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from app.domain import outcomes
from app.domain.claims import Work
from app.domain.hands import Hands
from app.domain.outcomes import Outcome, RetryPolicy
from app.errors import ImageError
from app.fetching import Downloads, Fetched, FetchLimits, HeldBack
from app.models import ImageState
from app.processors import DecodeLimits, ImageFile, perimeter

POLL_SECONDS = 0.25
# Pauses end in steps of this, so that hundreds of them do not wake the thread one by one.
TICK_SECONDS = 0.005


@dataclass(frozen=True)
class ConveyorOptions:
    """``slots`` images at once are downloading or pausing; ``ahead`` more may wait so that slots never run empty."""

    slots: int
    ahead: int
    pause_min_seconds: float
    pause_max_seconds: float
    fetch: FetchLimits
    decode: DecodeLimits
    retry: RetryPolicy


class Conveyor:
    """``add``, ``stop`` and ``room`` may be used by any thread; the rest belongs to the thread in ``run``."""

    def __init__(self, options: ConveyorOptions, hands: Hands, deliver: Callable[[list[Outcome]], None]) -> None:
        self._options = options
        self._hands = hands
        self._deliver = deliver
        self._inbox: deque[Work] = deque()
        self._downloads = Downloads(options.fetch)
        self._pausing: list[tuple[float, int, Outcome]] = []  # heap by the end of the pause
        self._order = itertools.count()
        self._stop_at: float | None = None
        self.room = options.slots + options.ahead  # images that may be claimed now

    @property
    def waiting_room(self) -> int:
        """How many images of one job may wait here before no more of it is claimed."""
        return self._options.slots + self._options.ahead

    @property
    def least_claim(self) -> int:
        """Room for fewer images than this is not worth a claim of its own."""
        return max(1, self._options.ahead // 2)

    def add(self, works: Iterable[Work]) -> None:
        self._inbox.extend(works)
        self._downloads.wake()

    def stop(self, deadline: float) -> None:
        """Put back what has not been started, finish what is in flight until ``deadline`` (monotonic seconds)."""
        self._stop_at = deadline
        self._downloads.wake()

    def run(self, *, on_room: Callable[[], None]) -> None:
        """Move images along until stopped and empty; ``on_room`` is called when more may be claimed."""
        while not self._is_over():
            self._feed()
            self._take_in(self._downloads.poll(self._poll_seconds()))
            self._deliver_paused()
            self._measure_room()
            if self.room >= self.least_claim:
                on_room()
        self._downloads.close()

    def _feed(self) -> None:
        if self._stop_at is not None:
            self._put_back_unstarted()
        free = self._options.slots - len(self._pausing) - self._downloads.active - self._downloads.ready
        for _ in range(min(free, len(self._inbox))):
            work = self._inbox.popleft()
            self._downloads.add(work, work.url or "")

    def _put_back_unstarted(self) -> None:
        unstarted = [*self._drain_inbox(), *self._downloads.forget(lambda _work: True)]
        for work in unstarted:
            self._hands.start(work)
        self._deliver([outcomes.put_back(work) for work in unstarted])

    def _drain_inbox(self) -> Iterable[Work]:
        while self._inbox:
            yield self._inbox.popleft()

    def _poll_seconds(self) -> float:
        if not self._pausing:
            return POLL_SECONDS
        return min(max(self._pausing[0][0] - time.monotonic(), TICK_SECONDS), POLL_SECONDS)

    def _take_in(self, fetched: Sequence[tuple[Work, Fetched | ImageError | HeldBack]]) -> None:
        done: list[Outcome] = []
        for work, result in fetched:
            self._hands.start(work)
            if isinstance(result, Fetched):
                self._read(work, result, done)
            elif isinstance(result, HeldBack):
                done.append(outcomes.put_back(work, result.delay_seconds))
            else:
                done.append(outcomes.failed(work, result, self._options.retry))
        if done:
            self._deliver(done)

    def _read(self, work: Work, fetched: Fetched, done: list[Outcome]) -> None:
        """Read the image; a good one pauses before it is delivered, a bad one is ``done``."""
        started = time.monotonic()
        try:
            read = perimeter.execute(ImageFile(fetched.body, self._options.decode))
        except ImageError as error:
            done.append(outcomes.failed(work, error, self._options.retry))
            return
        pause = random.uniform(self._options.pause_min_seconds, self._options.pause_max_seconds)
        now = time.monotonic()
        seconds = fetched.seconds + (now - started) + pause
        outcome = Outcome(work, ImageState.DONE, seconds=round(seconds, 4), bytes=len(fetched.body), **read)
        heapq.heappush(self._pausing, (now + pause, next(self._order), outcome))

    def _deliver_paused(self) -> None:
        now = time.monotonic()
        done = []
        while self._pausing and self._pausing[0][0] <= now:
            done.append(heapq.heappop(self._pausing)[2])
        if done:
            self._deliver(done)

    def _measure_room(self) -> None:
        in_hand = len(self._pausing) + self._downloads.active + self._downloads.ready + len(self._inbox)
        self.room = self._options.slots + self._options.ahead - in_hand

    def _is_over(self) -> bool:
        if self._stop_at is None:
            return False
        if time.monotonic() >= self._stop_at:
            return True
        return not (self._inbox or self._pausing or self._downloads.active or self._downloads.waiting)
