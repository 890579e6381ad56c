"""What is done to the service, and when: at points of the job's progress, so that no fault comes after its end."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """One kind of fault; the text is what the table shows."""

    KILL_WORKER = "worker killed (SIGKILL)"
    STOP_WORKER = "worker stopped (SIGTERM)"
    FREEZE_WORKER = "worker frozen past its lease"
    FLUSH_REDIS = "Redis emptied (FLUSHALL)"
    KILL_REDIS = "Redis killed, back empty"
    KILL_MARIADB = "MariaDB killed (SIGKILL)"
    CUT_BEFORE_COMMIT = "connection cut before COMMIT"
    CUT_AFTER_COMMIT = "connection cut after COMMIT"
    REPEAT_BELLS = "ten bells at once"


TIMES = {
    Fault.KILL_WORKER: 50,
    Fault.STOP_WORKER: 5,
    Fault.FREEZE_WORKER: 5,
    Fault.FLUSH_REDIS: 5,
    Fault.KILL_REDIS: 5,
    Fault.KILL_MARIADB: 3,
    Fault.CUT_BEFORE_COMMIT: 5,
    Fault.CUT_AFTER_COMMIT: 5,
    Fault.REPEAT_BELLS: 5,
}
# The first fault finds work under way, the last one leaves time to see its effect.
FIRST_AT, LAST_AT = 0.02, 0.92


@dataclass(frozen=True)
class Plan:
    seed: int = 1
    images: int = 10_000
    workers: int = 3
    lease_seconds: float = 4.0
    frozen_seconds: float = 6.0
    away_seconds: float = 2.0  # how long a killed server stays away
    most_seconds: float = 600.0
    times: dict[Fault, int] = field(default_factory=lambda: dict(TIMES))

    def schedule(self) -> list[tuple[int, Fault]]:
        """Faults in their order, each with the number of settled images from which on it is due."""
        dice = random.Random(self.seed)
        faults = [fault for fault, times in self.times.items() for _ in range(times)]
        dice.shuffle(faults)
        points = sorted(round(self.images * dice.uniform(FIRST_AT, LAST_AT)) for _ in faults)
        return list(zip(points, faults, strict=True))
