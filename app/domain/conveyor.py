"""The moving part of the pump: images are fetched, worked on and paused, hundreds at once, driven by one thread.

::

    inbox ------> download -----> header ----------------------------------> pause -> deliver
    lanes -------> (or storage) -> (or a child: pixels, processors) -> keep ---^

What blocks is done by others: pixels by children, files by threads of their own; they hand back what they did, and this
thread goes on with it. A pausing image holds no body: it is dropped once it was worked on and kept. Images whose body
is held meanwhile are *slow*: only so many of them are under way at once in each lane.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from app import processors
from app.domain import outcomes
from app.domain.conveyor_options import ConveyorOptions
from app.domain.hands import Hands
from app.domain.lanes import Lane
from app.domain.outcomes import Outcome
from app.domain.shelves import Kept, Shelves
from app.domain.works import Room, Work
from app.errors import DecodeError, ImageError, StorageError
from app.fetching import Downloads, Fetched, HeldBack
from app.models import ImageState
from app.processors import ImageFile, contract, perimeter, running
from app.processors.image_file import HURRIED_HEADER_CPU_SECONDS, HeaderTakesLongError
from app.processors.running import Worked
from app.storage import Storage

POLL_SECONDS = 0.25
FEW = 16
# Pauses end in steps of this, so that hundreds of them do not wake the thread one by one.
TICK_SECONDS = 0.005


class Conveyor:
    """``add``, ``stop`` and the properties are for any thread; the rest belongs to the thread in ``run``."""

    def __init__(
        self, options: ConveyorOptions, hands: Hands, deliver: Callable[[list[Outcome]], None], storage: Storage
    ) -> None:
        self._options = options
        self._hands = hands
        self._deliver = deliver
        # What waits, of claims of a few images and of many. The two take turns: a single image is not held up by
        # thousands, nor are these by a stream of single ones; within each nobody passes those that came before.
        self._few: deque[Work] = deque()
        self._many: deque[Work] = deque()
        self._is_turn_of_few = False
        self._downloads = Downloads(options.fetch)
        self._hurried = replace(options.decode, header_cpu_seconds=HURRIED_HEADER_CPU_SECONDS)
        # The quick images' slots are the plain lane's too; the other lanes' places come on top of them.
        self._plain = options.lane(contract.PLAIN)
        self._others = {name: options.lane(name) for name in processors.lanes() - {contract.PLAIN}}
        self._look = partial(perimeter.glance, limits=options.decode)
        self._shelves = Shelves(storage)
        self._back: deque[Callable[[], None]] = deque()  # what to go on with, from other threads
        self._busy = 0  # images that a child or a shelf is at
        self._pausing: list[tuple[float, int, Outcome]] = []  # heap by the end of the pause
        self._done: list[Outcome] = []
        self._order = itertools.count()
        self._stop_at: float | None = None
        self.room = options.slots + options.ahead  # images that may be claimed now

    @property
    def waiting_room(self) -> Room:
        """How many images of one job may wait here before no more of it is claimed."""
        lanes = {name: 2 * lane.most for name, lane in self._others.items()}
        return Room(self._options.slots + self._options.ahead, 2 * self._plain.most, lanes)

    @property
    def claimable(self) -> Room:
        lanes = {name: lane.room for name, lane in self._others.items()}
        return Room(self.room, min(self.room, self._plain.room), lanes)

    @property
    def open_lanes(self) -> frozenset[str]:
        """Those of which more may be claimed; the plain one where that is worth it."""
        others = frozenset(name for name, lane in self._others.items() if lane.has_room)
        return others | {contract.PLAIN} if self.room >= self.least_claim else others

    @property
    def least_claim(self) -> int:
        """Room for fewer images than this is not worth a claim of its own: it costs the same for one and for many."""
        return max(1, self._options.ahead * 3 // 5)

    def add(self, works: Sequence[Work]) -> None:
        """Take what was claimed of one job."""
        (self._few if len(works) <= FEW else self._many).extend(work for work in works if not work.is_slow)
        for work in works:
            if work.is_slow:
                self._lane(work).inbox.append(work)
        # Until it is measured again: whoever claims may be back sooner, and would claim for the same room twice.
        self.room -= sum(not work.is_slow for work in works)
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
            self._take_back()
            self._end_pauses()
            if self._done:
                self._deliver(self._done)
                self._done = []
            self._measure_room()
            if self.room >= self.least_claim:
                on_room()
        self._downloads.close()
        for lane in self._lanes:
            lane.children.close()
        self._shelves.close()

    @property
    def _lanes(self) -> tuple[Lane, ...]:
        return (self._plain, *self._others.values())

    def _lane(self, work: Work) -> Lane:
        # A lane that another release has made is none of ours.
        return self._others.get(work.wanted.lane, self._plain)

    def _feed(self) -> None:
        if self._stop_at is not None:
            self._put_back_unstarted()
        for lane in self._others.values():
            for work in lane.start(lane.startable()):
                self._start(work)
        free = max(0, self._options.slots - self._in_slots)
        slow = min(free, self._plain.startable())
        for work in self._plain.start(slow):
            self._start(work)
        for _ in range(min(free - slow, self._waiting)):
            self._start(self._next())

    @property
    def _waiting(self) -> int:
        return len(self._few) + len(self._many)

    def _next(self) -> Work:
        self._is_turn_of_few = not self._is_turn_of_few
        first, second = (self._few, self._many) if self._is_turn_of_few else (self._many, self._few)
        return (first or second).popleft()

    @property
    def _under_way(self) -> int:
        return len(self._pausing) + self._downloads.active + self._downloads.ready + self._busy

    @property
    def _in_slots(self) -> int:
        return self._under_way - sum(lane.under_way for lane in self._others.values())

    def _start(self, work: Work) -> None:
        if work.storage_key is None:
            self._downloads.add(work, work.url or "", None if work.is_slow or work.wanted.processors else self._look)
            return
        started = time.monotonic()
        self._busy += 1

        def done(result: bytes | StorageError) -> None:
            self._go_on(self._read, work, result, time.monotonic() - started)

        self._shelves.read(work.storage_key, work.sha256, done)

    def _put_back_unstarted(self) -> None:
        slow = (work for lane in self._lanes for work in _drained(lane.inbox))
        waiting = [*_drained(self._few), *_drained(self._many), *slow]
        forgotten = self._downloads.forget(lambda _work: True)
        for work in forgotten:
            self._leave_lane(work)
        unstarted = [*waiting, *forgotten]
        self._hands.start(unstarted)
        self._done += map(outcomes.put_back, unstarted)

    def _poll_seconds(self) -> float:
        if not self._pausing:
            return POLL_SECONDS
        return min(max(self._pausing[0][0] - time.monotonic(), TICK_SECONDS), POLL_SECONDS)

    def _take_in(self, fetched: Sequence[tuple[Work, Fetched | ImageError | HeldBack]]) -> None:
        self._hands.start(work for work, _ in fetched)
        for work, result in fetched:
            if isinstance(result, Fetched):
                if result.seen is not None:
                    self._pause(work, result.size, Worked(result.seen), None, result.seconds)
                    continue
                self._work_on(work, result.body, result.seconds)
            else:
                self._leave_lane(work)
                if isinstance(result, HeldBack):
                    self._done.append(outcomes.put_back(work, result.delay_seconds))
                else:
                    self._fail(work, result)

    def _go_on(self, step: Callable[..., None], *arguments: Any) -> None:
        """Have the conveyor's thread go on with an image; called by other threads."""
        self._back.append(lambda: step(*arguments))
        self._downloads.wake()

    def _take_back(self) -> None:
        while self._back:
            self._back.popleft()()

    def _read(self, work: Work, result: bytes | StorageError, seconds: float) -> None:
        self._busy -= 1
        self._hands.start([work])
        if isinstance(result, StorageError):
            self._leave_lane(work)
            self._fail(work, result)
        else:
            self._work_on(work, result, seconds)

    def _work_on(self, work: Work, body: bytes, seconds: float) -> None:
        if work.is_slow:
            self._work_slowly(work, body, seconds)
            return
        started = time.monotonic()
        result = self._look_at(work, body)
        if isinstance(result, HeaderTakesLongError):
            self._plain.join(body)
            self._give_to_child(work, body, seconds)
        elif isinstance(result, DecodeError):
            self._fail(work, result)
        else:
            self._pause(work, len(body), result, None, seconds + time.monotonic() - started)

    def _work_slowly(self, work: Work, body: bytes, seconds: float) -> None:
        self._lane(work).hold(body)
        if not work.is_apart:
            started = time.monotonic()
            result = self._look_at(work, body)
            if not isinstance(result, HeaderTakesLongError):
                self._finish(work, body, result, seconds + time.monotonic() - started)
                return
        self._give_to_child(work, body, seconds)

    def _look_at(self, work: Work, body: bytes) -> Worked | DecodeError:
        """Read the header on this thread, and run the processors that need no more."""
        if work.wanted.processors:
            return running.work_on([body], _find(work.wanted.processors), self._hurried)[0]
        try:
            return Worked(perimeter.execute(ImageFile(body, self._hurried)))
        except DecodeError as error:
            return error

    def _give_to_child(self, work: Work, body: bytes, seconds: float) -> None:
        self._busy += 1

        def done(result: Worked | DecodeError, spent: float) -> None:
            self._go_on(self._come_from_child, work, body, result, seconds + spent)

        self._lane(work).children.submit(body, _find(work.wanted.processors), done)

    def _come_from_child(self, work: Work, body: bytes, result: Worked | DecodeError, seconds: float) -> None:
        self._busy -= 1
        self._finish(work, body, result, seconds)

    def _finish(self, work: Work, body: bytes, result: Worked | DecodeError, seconds: float) -> None:
        """A slow image was read, or cannot be: keep it where the job wants that, else drop its body."""
        if isinstance(result, DecodeError):
            self._lane(work).drop(body)
            self._fail(work, result)
            return
        if work.wanted.keep and work.storage_key is None:
            self._busy += 1
            started = time.monotonic()

            def done(kept: Kept | StorageError) -> None:
                self._go_on(self._come_from_shelf, work, body, result, kept, seconds + time.monotonic() - started)

            self._shelves.keep(body, result.measures["format"], done)
            return
        self._lane(work).drop(body)
        self._pause(work, len(body), result, None, seconds)

    def _come_from_shelf(
        self, work: Work, body: bytes, worked: Worked, kept: Kept | StorageError, seconds: float
    ) -> None:
        self._busy -= 1
        self._lane(work).drop(body)
        if isinstance(kept, StorageError):
            self._fail(work, kept)
        else:
            self._pause(work, len(body), worked, kept, seconds)

    def _leave_lane(self, work: Work) -> None:
        """Its body never came."""
        if work.is_slow:
            self._lane(work).drop(b"")

    def _fail(self, work: Work, error: ImageError) -> None:
        self._done.append(outcomes.failed(work, error, self._options.retry))

    def _pause(self, work: Work, length: int, worked: Worked, kept: Kept | None, seconds: float) -> None:
        pause = 0.0  # where a model has worked there is nothing left for it to stand for
        if not work.wanted.has_model and self._options.pause_max_seconds:
            pause = random.uniform(self._options.pause_min_seconds, self._options.pause_max_seconds)
        outcome = Outcome(
            work,
            ImageState.DONE,
            seconds=round(seconds + pause, 4),
            bytes=length,
            results=worked.results,
            sha256=kept.sha256 if kept else None,
            storage_key=kept.key if kept else None,
            **worked.measures,
        )
        if pause:
            heapq.heappush(self._pausing, (time.monotonic() + pause, next(self._order), outcome))
        else:
            self._done.append(outcome)

    def _end_pauses(self) -> None:
        now = time.monotonic()
        while self._pausing and self._pausing[0][0] <= now:
            self._done.append(heapq.heappop(self._pausing)[2])

    def _measure_room(self) -> None:
        # Slow images wait aside, since those of other jobs can pass them; only a great many of them take room.
        too_many_slow = max(0, -self._plain.room)
        in_hand = self._in_slots + self._waiting + too_many_slow
        self.room = self._options.slots + self._options.ahead - in_hand

    def _is_over(self) -> bool:
        if self._stop_at is None:
            return False
        if time.monotonic() >= self._stop_at:
            return True
        is_waiting = self._waiting or self._downloads.waiting or any(lane.inbox for lane in self._lanes)
        return not (is_waiting or self._pausing or self._downloads.active or self._busy or self._back)


def _drained(inbox: deque[Work]) -> Iterable[Work]:
    while inbox:
        yield inbox.popleft()


@lru_cache(maxsize=256)
def _find(names: tuple[str, ...]) -> tuple[contract.Processor, ...]:
    return processors.find(names)
