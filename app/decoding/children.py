"""The parent's side: a bounded number of children, each started when there is work for it and served by one thread.

What a child dies of is its image's: images that were worked on together are taken one by one after a death, an image on
which ``MOST_DEATHS`` of them died is given up. A child that lacks memory may have lost it to others before:
its image gets a fresh one before that is believed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from app.decoding.options import ChildOptions
from app.decoding.process import Cause, Child, ChildDiedError, NoChildError
from app.errors import DecodeError
from app.processors.codes import OUT_OF_MEMORY
from app.processors.contract import Processor
from app.processors.running import Worked

# So many children an image may take along. What computes for ever does so again; what waited too long may have been
# frozen with the whole machine.
MOST_DEATHS = {Cause.CRASH: 3, Cause.BUSY: 1, Cause.LATE: 2}
BYTES_A_BATCH = 32 * 1024 * 1024
# A child ends after so many images, since decoders leak, and after so many seconds without one.
IMAGES_A_CHILD = 5000
IDLE_SECONDS = 120.0

Result = Worked | DecodeError
Done = Callable[[Result, float], None]


@dataclass(frozen=True, slots=True)
class Call:
    body: bytes
    wanted: tuple[Processor, ...]
    done: Done


class Children:
    """May be used by any thread. ``done`` is called by one of ours, with the result and the seconds it took."""

    def __init__(self, options: ChildOptions) -> None:
        self._options = options
        self._changed = threading.Condition()
        self._calls: deque[Call] = deque()
        self._threads: list[threading.Thread] = []
        self._servers: list[_Server] = []
        self._idle = 0
        self._is_closed = False

    def submit(self, body: bytes, wanted: Sequence[Processor], done: Done) -> None:
        """Measure an image and run processors on it; ``done`` is called once, unless ``close`` comes first."""
        with self._changed:
            if self._is_closed:
                return
            self._calls.append(Call(body, tuple(wanted), done))
            self._changed.notify()
            # One that is idle may still be on its way to a call before this one.
            if len(self._calls) > self._idle and len(self._threads) < self._options.processes:
                thread = threading.Thread(target=self._serve, name=f"child-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def work_on(self, body: bytes, wanted: Sequence[Processor]) -> Worked:
        """``submit``, and wait for it. Raises DecodeError."""
        results: list[Result] = []
        is_done = threading.Event()

        def done(result: Result, _seconds: float) -> None:
            results.append(result)
            is_done.set()

        self.submit(body, wanted, done)
        while not is_done.wait(1):
            if self._is_closed:
                raise _no_child("the service is being stopped")
        if isinstance(results[0], DecodeError):
            raise results[0]
        return results[0]

    def close(self) -> None:
        """End the children at once; calls that are not done never will be."""
        with self._changed:
            self._is_closed = True
            self._calls.clear()
            self._changed.notify_all()
            for server in self._servers:
                server.kill_child()

    def _serve(self) -> None:
        server = _Server(self._options, lambda: self._is_closed)
        self._servers.append(server)
        try:
            while calls := self._next(server):
                for call, result, seconds in server.work_on(calls):
                    call.done(result, seconds)
        finally:
            server.end_child()

    def _next(self, server: _Server) -> list[Call]:
        """Wait for calls: one, or several that a processor takes at once. None of them once closed."""
        with self._changed:
            self._idle += 1
            try:
                while not self._calls and not self._is_closed:
                    if not self._changed.wait(IDLE_SECONDS):
                        server.end_child()
            finally:
                self._idle -= 1
            return [] if self._is_closed else list(self._take())

    def _take(self) -> Iterator[Call]:
        first = self._calls.popleft()
        yield first
        if not any(hasattr(processor, "execute_batch") for processor in first.wanted):
            return
        taken, size = 1, len(first.body)
        while self._calls and taken < self._options.batch and self._calls[0].wanted == first.wanted:
            size += len(self._calls[0].body)
            if size > BYTES_A_BATCH:
                return
            taken += 1
            yield self._calls.popleft()


class _Server:
    """One thread's child, started anew as often as it dies."""

    def __init__(self, options: ChildOptions, is_closed: Callable[[], bool]) -> None:
        self._options = options
        self._is_closed = is_closed
        self._child: Child | None = None

    def end_child(self) -> None:
        if self._child:
            self._child.end()
            self._child = None

    def kill_child(self) -> None:
        """From any thread."""
        if child := self._child:
            child.kill()

    def work_on(self, calls: Sequence[Call]) -> Iterator[tuple[Call, Result, float]]:
        """Each call with its result and the seconds it took."""
        started = time.monotonic()
        was_fresh = self._child is None
        try:
            results = self._ask(calls)
        except NoChildError as error:
            results = [_no_child(str(error)) for _ in calls]
        except ChildDiedError as death:
            for call in calls:
                started = time.monotonic()
                result = self._try_alone(call, death if len(calls) == 1 else None)
                yield call, result, time.monotonic() - started
            return
        seconds = (time.monotonic() - started) / len(calls)
        for call, result in zip(calls, results, strict=True):
            if _is_hungry(result) and not (was_fresh and len(calls) == 1):
                self.end_child()
                result = self._try_alone(call, None)
            yield call, result, seconds

    def _try_alone(self, call: Call, death: ChildDiedError | None) -> Result:
        """``death`` is the first on this image, where there was one already."""
        deaths = 0
        while True:
            if death:
                deaths += 1
                if deaths >= MOST_DEATHS[death.cause]:
                    return _given_up(death, deaths)
            try:
                return self._ask([call])[0]
            except NoChildError as error:
                return _no_child(str(error))
            except ChildDiedError as error:
                death = error

    def _ask(self, calls: Sequence[Call]) -> list[Result]:
        if self._child and self._child.images >= IMAGES_A_CHILD:
            self.end_child()
        if self._is_closed():
            raise NoChildError("the service is being stopped")
        if self._child is None:
            self._child = Child(self._options)
        try:
            return self._child.work_on([call.body for call in calls], calls[0].wanted)
        except ChildDiedError:
            self._child = None
            raise


def _given_up(death: ChildDiedError, deaths: int) -> DecodeError:
    if death.cause is not Cause.CRASH:
        return DecodeError("decoder_timeout", f"It was given up after {death}.")
    return DecodeError(
        "decoder_crashed", f"The process that worked on it died {deaths} times, the last time by {death}."
    )


def _is_hungry(result: Result) -> bool:
    if isinstance(result, DecodeError):
        return result.code == OUT_OF_MEMORY
    return result.results is not None and f'"code":"{OUT_OF_MEMORY}"' in result.results


def _no_child(reason: str) -> DecodeError:
    return DecodeError("no_decoder", f"No process to decode it could be started: {reason}.", transient=True)
