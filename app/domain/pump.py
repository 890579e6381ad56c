"""The engine of a worker process: it keeps hundreds of images in flight and its slots full.

Three threads, each with one thing to wait for, and a fourth that watches them::

    claimer --claims--> conveyor --outcomes--> writer        heart
    (database)          (network, pauses)      (database)    (the clock)

The conveyor downloads, reads and pauses; it never touches the database. The writer puts outcomes down in batches. The
claimer fetches the next chunks before the last ones have drained, so that neither the tail of a chunk nor a slow host
empties the slots. A Celery task only holds the pump open for a slice of time (``work``).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
from flask import Flask

from app import memory, processors
from app.domain import claims, workers
from app.domain.claims import Only
from app.domain.conveyor import Conveyor
from app.domain.conveyor_options import ConveyorOptions
from app.domain.hands import Hands
from app.domain.workers import BEAT_SECONDS, Identity, Pace, Progress
from app.domain.writer import Writer
from app.errors import UnavailableError
from app.processors import contract

log = structlog.get_logger()

IDLE_LOOK_SECONDS = 0.25
# Without a bell the database is asked this often: a lost bell or a deaf consumer costs seconds.
UNRUNG_LOOK_SECONDS = 5.0
# While the plain lane is full, others of which nothing was due are looked at again after this.
LOOK_ASIDE_SECONDS = 1.0
DATABASE_AWAY_SECONDS = 1.0
# An idle worker gives freed memory back so often at most.
TRIM_SECONDS = 60.0
# Images that an idle worker claims at first: it has begun with them while it claims the others.
FIRST_CLAIM = 200
LAST_CLAIM_SECONDS = 5.0
# Claims go on for this long after a slice has ended, so that the next one finds full slots.
SLICE_GAP_SECONDS = 2.0
DIED, STUCK = 70, 75  # exit codes: a thread ended by an error; work was held and nothing written


@dataclass(frozen=True)
class PumpOptions:
    """What a worker process is allowed: see the settings of the same names."""

    me: Identity
    lease_seconds: float
    flush_seconds: float
    stop_seconds: float
    stuck_seconds: float  # longer than any one image may take
    conveyor: ConveyorOptions
    only: Only = claims.EVERYTHING  # the doors and lanes that it works for

    @property
    def lanes(self) -> frozenset[str]:
        return frozenset(self.only.lanes or processors.lanes())


class Pump:
    """One a process. ``work`` and ``stop`` may be called by any thread, and again."""

    def __init__(self, app: Flask, options: PumpOptions) -> None:
        self._app = app
        self._options = options
        self._hands = Hands()
        self._writer = Writer(self._hands, options.flush_seconds, options.lease_seconds)
        self._conveyor = Conveyor(options.conveyor, self._hands, self._writer.add, app.extensions["storage"])
        self._slice = threading.Lock()
        self._has_room = threading.Event()  # wakes the claimer
        self._rung = threading.Event()  # ... also from its wait after an empty look
        self._looked = threading.Condition()  # tells a waiting task that the claimer found nothing
        self._empty_looks = 0
        self._claim_until = 0.0
        self._look_at = 0.0  # ... and from then on without a slice
        self._look_aside_at = 0.0
        self._trim_at = 0.0
        self._is_stopping = False
        self._has_claimed = threading.Event()  # for the last time
        self._has_ended = threading.Event()
        self._pace = Pace()
        self._starting = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._heart: list[threading.Thread] = []

    def work(self, seconds: float) -> bool:
        """Hold the pump open until nothing is left or ``seconds`` are over; True where more is left.

        A second call while one is under way returns at once: the first one finds the work.
        """
        self._rung.set()
        if self._is_stopping or not self._slice.acquire(blocking=False):
            return False
        try:
            self.start()
            return self._hold_open(time.monotonic() + seconds)
        finally:
            self._slice.release()

    def _hold_open(self, end: float) -> bool:
        self._claim_until = end + SLICE_GAP_SECONDS
        with self._looked:
            self._empty_looks = 0
            self._has_room.set()
            while not self._is_stopping and (left := end - time.monotonic()) > 0:
                if self._empty_looks and self._hands.is_empty:
                    self._claim_until = 0.0
                    return False
                self._looked.wait(min(left, IDLE_LOOK_SECONDS))
        return not self._is_stopping

    def stop(self) -> None:
        """Claim nothing more, put back what has not been started; what is in flight is finished. Does not wait."""
        self._is_stopping = True
        self._rung.set()
        self._has_room.set()
        self._conveyor.stop(time.monotonic() + self._options.stop_seconds)

    def join(self) -> None:
        """Wait, after ``stop``, until everything held is written or given back."""
        for thread in self._threads:
            thread.join(self._options.stop_seconds + DATABASE_AWAY_SECONDS)
        self._has_ended.set()
        for thread in self._heart:
            thread.join(DATABASE_AWAY_SECONDS)

    def start(self) -> None:
        """Start the threads, once; from then on they look for work by themselves now and then."""
        with self._starting:
            if not self._threads:
                self._start()

    def _start(self) -> None:
        memory.keep_freed_bodies()
        memory.leave_alone_what_stays()
        self._threads = [
            self._thread("claimer", self._claim),
            self._thread("conveyor", self._convey),
            self._thread("writer", self._writer.run),
        ]
        self._heart = [self._thread("heart", self._beat)]

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._guarded, args=(target,), name=name, daemon=True)
        thread.start()
        return thread

    def _guarded(self, target: Callable[[], None]) -> None:
        # A pump that lost one of its threads would hold its leases for ever: end the process, and let the supervisor
        # start a new one and the leases run out.
        try:
            with self._app.app_context():
                target()
        except BaseException:
            log.critical("worker thread died", exc_info=True)
            os._exit(DIED)

    def _convey(self) -> None:
        self._conveyor.run(on_room=self._has_room.set)
        # A claim may have been under way when the stop came: what it brings is given back with the rest.
        self._has_claimed.wait(LAST_CLAIM_SECONDS)
        self._writer.close()

    def _claim(self) -> None:
        try:
            self._claim_until_stopped()
        finally:
            self._has_claimed.set()

    def _claim_until_stopped(self) -> None:
        while not self._is_stopping:
            self._has_room.wait(IDLE_LOOK_SECONDS)
            self._has_room.clear()
            now = time.monotonic()
            is_open = now < self._claim_until or now >= self._look_at
            lanes = self._options.lanes & self._conveyor.open_lanes
            if self._writer.is_held_up or not is_open or not lanes:
                continue
            if contract.PLAIN in self._options.lanes - lanes:
                # The plain lane is full, and will soon want more: that must not wait while nothing of others is due.
                if now >= self._look_aside_at and not self._claim_once(lanes):
                    self._look_aside_at = now + LOOK_ASIDE_SECONDS
            elif self._claim_once(lanes):
                self._empty_looks = 0
            else:
                self._look_at = time.monotonic() + UNRUNG_LOOK_SECONDS
                # However often the conveyor reports room, the database is asked again after a while or a bell.
                self._note_empty_look()
                self._rung.wait(IDLE_LOOK_SECONDS)
                self._rung.clear()

    def _note_empty_look(self) -> None:
        if self._hands.is_empty and time.monotonic() >= self._trim_at:
            self._trim_at = time.monotonic() + TRIM_SECONDS
            memory.give_back_freed()
        with self._looked:
            self._empty_looks += 1
            self._looked.notify_all()

    def _claim_once(self, lanes: frozenset[str]) -> bool:
        # With all lanes open nothing is asked about them: claims are quickest so.
        only = self._options.only if lanes == self._options.lanes else replace(self._options.only, lanes=lanes)
        room = self._conveyor.claimable
        if self._hands.is_empty:
            room = room.at_most(FIRST_CLAIM)
        try:
            claimed = claims.claim(
                self._options.me.name,
                room,
                lease_seconds=self._options.lease_seconds,
                only=only,
                avoid_jobs=self._hands.stuck_jobs(self._conveyor.waiting_room),
            )
        except UnavailableError:
            log.warning("nothing claimed", reason="the database is away")
            time.sleep(DATABASE_AWAY_SECONDS)
            return False
        if claimed is None:
            return False
        self._hands.take(each for each in claimed if each.work)
        self._writer.give_back([(each.key, each.token) for each in claimed if not each.work])
        self._conveyor.add([work for each in claimed for work in each.work])
        return True

    def _beat(self) -> None:
        """Tell the database that this process lives, and end it where it holds work and gets nowhere with it."""
        progress = Progress(self._options.stuck_seconds)
        while True:
            is_heard = self._tell()
            if is_heard and progress.is_stuck(is_holding=not self._hands.is_empty, settled=self._writer.written):
                log.critical("worker stuck", in_flight=self._hands.images, settled=self._writer.written)
                os._exit(STUCK)
            if self._has_ended.wait(BEAT_SECONDS):
                break
        self._tell(is_last=True)

    def _tell(self, *, is_last: bool = False) -> bool:
        settled = self._writer.written
        rate = self._pace.since_last(settled)
        me, in_flight = self._options.me, self._hands.images
        return workers.tell(me, in_flight=in_flight, settled=settled, rate=rate, is_last=is_last)
