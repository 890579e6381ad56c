"""Faults as they are dealt out, and what each of them was seen to do."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from celery import Celery

from app import queues
from chaos.plan import Fault
from chaos.scene import Scene, Worker

BELLS = 10
LONGEST_PAUSE_SECONDS = 0.4  # GPU_PAUSE_MAX_SECONDS, as it ships
# For so many seconds after one of these, results may still wait for their turn.
KEEP_FROM_WRITING = {Fault.KILL_MARIADB: 8.0, Fault.CUT_BEFORE_COMMIT: 2.0, Fault.CUT_AFTER_COMMIT: 2.0}

# Suspects wait between their download and their header for a child, which nobody sees from here; so they say nothing of
# how long a finished result waits. Those who write it know no difference.
NOT_SUSPECT = "unreturned <= 1"

Lease = tuple[int, int]  # a chunk's number and the claim under which it was held


@dataclass
class Blow:
    """One fault: what was held by whom it hit, and how long until it was made good."""

    fault: Fault
    struck_at: float
    settled: int  # images, at that moment
    leases: set[Lease] = field(default_factory=set)
    images: set[int] = field(default_factory=set)  # open ones of those chunks: these may be downloaded again
    recovery_seconds: float | None = None
    redone: int = 0
    unsettled: dict[int, float] = field(default_factory=dict)  # image: since when the one who was hit had held it
    is_alone: bool = False  # no other fault was in the way of those who write


class Blows:
    """Deals out faults; ``do_due`` undoes those that last a while. ``seed`` decides which worker is hit."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._scene = scene
        self._dice = random.Random(seed)
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._away: set[object] = set()
        self.struck: list[Blow] = []

    def can(self, fault: Fault) -> bool:
        """Whether what it hits is there; else it has to wait a little."""
        match fault:
            case Fault.KILL_WORKER | Fault.STOP_WORKER | Fault.FREEZE_WORKER:
                return any(worker.is_at_work for worker in self._scene.workers)
            case Fault.FLUSH_REDIS | Fault.KILL_REDIS | Fault.REPEAT_BELLS:
                return self._scene.redis not in self._away
            case _:
                return self._scene.mariadb not in self._away

    def strike(self, fault: Fault, settled: int) -> Blow:
        blow = Blow(fault, time.monotonic(), settled)
        self.struck.append(blow)
        match fault:
            case Fault.KILL_WORKER | Fault.STOP_WORKER | Fault.FREEZE_WORKER:
                self._hit_worker(blow)
            case Fault.FLUSH_REDIS:
                self._scene.redis.flush()
            case Fault.KILL_REDIS:
                self._take_away(self._scene.redis)
            case Fault.KILL_MARIADB:
                self._note_held(blow, self._scene.workers)
                blow.leases.clear()  # its workers keep them
                self._take_away(self._scene.mariadb)
            case Fault.CUT_BEFORE_COMMIT | Fault.CUT_AFTER_COMMIT:
                self._scene.proxy.cut("before" if fault is Fault.CUT_BEFORE_COMMIT else "after")
            case Fault.REPEAT_BELLS:
                _ring(self._scene.redis.url)
        return blow

    def _hit_worker(self, blow: Blow) -> None:
        worker = self._dice.choice([worker for worker in self._scene.workers if worker.is_at_work])
        if blow.fault is Fault.KILL_WORKER:
            worker.process.kill()
        elif blow.fault is Fault.FREEZE_WORKER:
            worker.process.freeze()
            worker.is_frozen = True
            self._do_later(self._scene.plan.frozen_seconds, lambda: self._thaw(worker))
        else:
            worker.is_ending = True
            worker.process.child.terminate()
        # Afterwards, so that nothing is written any more of what is found open here.
        if blow.fault is not Fault.STOP_WORKER:
            self._note_held(blow, [worker])
        if blow.fault is Fault.KILL_WORKER:
            blow.is_alone = self._is_calm()
            self._note_unsettled(blow, worker)

    def _is_calm(self) -> bool:
        """Whether nothing but this has lately kept results from being written."""
        now = time.monotonic()
        is_cut = any(now - blow.struck_at < KEEP_FROM_WRITING.get(blow.fault, 0) for blow in self.struck)
        is_frozen = any(worker.is_frozen for worker in self._scene.workers)  # it may hold locks
        return not (is_cut or is_frozen or self._scene.mariadb in self._away)

    def _note_unsettled(self, blow: Blow, worker: Worker) -> None:
        now = time.monotonic()
        rows = self._scene.find(
            "SELECT images.seq, TIMESTAMPDIFF(MICROSECOND, claimed_at, UTC_TIMESTAMP(6)) / 1e6 FROM chunks JOIN images"
            " ON images.job_id = chunks.job_id AND images.seq >= first_image AND images.seq < first_image + images"
            f" WHERE due_at IS NOT NULL AND claimed_by = '{worker.name}' AND images.state = 'open' AND {NOT_SUSPECT}"
        )
        blow.unsettled = {seq: now - float(age) for seq, age in rows or ()}

    def _thaw(self, worker: Worker) -> None:
        worker.is_frozen = False
        worker.process.thaw()

    def _take_away(self, server: object) -> None:
        self._away.add(server)
        server.kill()  # type: ignore[attr-defined]
        self._do_later(self._scene.plan.away_seconds, lambda: self._bring_back(server))

    def _bring_back(self, server: object) -> None:
        server.start()  # type: ignore[attr-defined]
        self._away.discard(server)

    def _note_held(self, blow: Blow, workers: Iterable[Worker]) -> None:
        names = ", ".join(f"'{worker.name}'" for worker in workers)
        chunks = self._scene.find(
            f"SELECT seq, claim, first_image, images FROM chunks WHERE due_at IS NOT NULL AND claimed_by IN ({names})"
        )
        for seq, claim, first, images in chunks or ():
            blow.leases.add((seq, claim))
            blow.images.update(range(first, first + images))

    def _do_later(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._order), action))

    def do_due(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()

    @property
    def is_over(self) -> bool:
        """Whether all that was taken away is back."""
        return not self._later

    def look(self, settled: int) -> None:
        """Note which blows have been made good by now: results come in again, and nothing is kept from others by the
        one who was hit."""
        open_blows = [blow for blow in self.struck if blow.recovery_seconds is None]
        if not open_blows:
            return
        held = set(self._scene.find("SELECT seq, claim FROM chunks WHERE due_at > UTC_TIMESTAMP(6)") or ())
        for blow in open_blows:
            if settled > blow.settled and not blow.leases & held:
                blow.recovery_seconds = time.monotonic() - blow.struck_at

    def explain(self, downloads: Counter[int]) -> int:
        """Put each repeated download down to the blow that explains it; returns how many none does."""
        unexplained = 0
        for image, times in downloads.items():
            suspects = [blow for blow in self.struck if image in blow.images]
            for blow in suspects[: times - 1]:
                blow.redone += 1
            unexplained += max(0, times - 1 - len(suspects))
        return unexplained


def oldest_unwritten_seconds(blow: Blow, times: Mapping[int, Sequence[float]]) -> float:
    """The least age that the oldest result had which the killed worker held and had not written; 0 where it held none.

    Of an image that is open after the kill only its download is known: the result was there one longest pause later.
    """
    ages = [
        blow.struck_at - asked_at - LONGEST_PAUSE_SECONDS
        for image, held_since in blow.unsettled.items()
        for asked_at in times.get(image, ())
        if held_since < asked_at < blow.struck_at
    ]
    return max(ages, default=0.0)


def _ring(redis_url: str) -> None:
    with Celery(broker=redis_url, set_as_current=False) as celery:
        for _ in range(BELLS):
            celery.send_task(queues.WORK, queue=queues.IMAGES)
