"""What one measurement found, and the medians of several."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.costs import Spent

# Names of the parts that CPU seconds are told apart by.
WORKERS, WEB, RECOVER, MARIADB, REDIS, HOST = "workers", "web", "recover", "MariaDB", "Redis", "image host"


@dataclass(frozen=True)
class Run:
    """``images`` done in ``seconds``. ``peak_mb`` is that of the largest process that works on images."""

    images: int
    seconds: float
    spent: Spent
    peak_mb: float
    busy: float  # the part of all cores that was busy, with anything
    slots_used: float | None = None  # the part of all slots that was in use on average

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds

    def cpu(self, part: str) -> float:
        """CPU seconds that a part spent on 1,000 images."""
        return self.spent.parts[part] / self.images * 1000


@dataclass
class Series:
    """The runs of one way on pictures of one weight."""

    way: str
    runs: list[Run] = field(default_factory=list)

    def median(self, value: Callable[[Run], float]) -> float:
        return statistics.median(value(run) for run in self.runs)

    @property
    def rate(self) -> float:
        return self.median(lambda run: run.rate)

    @property
    def parts(self) -> Sequence[str]:
        return list(self.runs[0].spent.parts)

    def cpu(self, part: str) -> float:
        return self.median(lambda run: run.cpu(part))
