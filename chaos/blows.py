"""Faults as they are dealt out, and what each of them was seen to do."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from celery import Celery

from app import queues
from chaos.plan import Fault
from chaos.scene import Scene, Worker

BELLS = 10

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


def _ring(redis_url: str) -> None:
    with Celery(broker=redis_url, set_as_current=False) as celery:
        for _ in range(BELLS):
            celery.send_task(queues.WORK, queue=queues.IMAGES)
