"""The whole measurement: every way on every weight of picture, in turn, so that a slow minute hits all alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bench import detector, fetching, pictures, reading, services
from bench.detector import Detected
from bench.fetching import Fetching
from bench.pictures import WEIGHTS, Album, Weight
from bench.reading import Readings, Sizes
from bench.runs import Run, Series
from bench.servers import Servers
from bench.ways import accept, bare, ours, seed
from bench.ways.accept import Accepted
from bench.ways.ours import Single
from config import Settings

SEED = "(a) the seed's loop"
OURS, BARE = "(b) ours", "(c) bare limit"
OURS_NO_PAUSE, BARE_NO_PAUSE = "(b) ours, no pause", "(c) bare limit, no pause"
WAYS = (SEED, OURS, BARE, OURS_NO_PAUSE, BARE_NO_PAUSE)

_fields = Settings.model_fields
PAUSE = (float(_fields["GPU_PAUSE_MIN_SECONDS"].default), float(_fields["GPU_PAUSE_MAX_SECONDS"].default))


@dataclass(frozen=True)
class Plan:
    """How much is measured. ``no_pause_images`` are of a job without a pause, ``singles`` are jobs of one image."""

    weights: tuple[Weight, ...]
    pictures: int
    rounds: int
    seed_images: int
    images: int
    no_pause_images: int
    warm_images: int
    singles: int
    accepted: tuple[int, ...]  # URLs of a POST
    fetching: fetching.Sizes
    reading: Sizes
    detected: int  # photos


FULL = Plan(
    WEIGHTS,
    pictures=50,
    rounds=3,
    seed_images=120,
    images=10_000,
    no_pause_images=30_000,
    warm_images=2_000,
    singles=20,
    accepted=(10_000, 100_000),
    fetching=fetching.Sizes(secure=10_000, client=10_000, rival=1_000, slots=30_000, memory=10_000, memory_jobs=10),
    reading=Sizes(visits=(10_000, 1_000_000), asked=200),
    detected=300,
)
SHORT = Plan(
    WEIGHTS[1:],
    pictures=5,
    rounds=1,
    seed_images=3,
    images=300,
    no_pause_images=600,
    warm_images=100,
    singles=2,
    accepted=(300,),
    fetching=fetching.Sizes(
        secure=200, client=200, rival=50, slots=1_500, memory=500, memory_jobs=2, installs_rivals=False
    ),
    reading=Sizes(visits=(1_000, 2_000), asked=5),
    detected=32,
)


@dataclass
class Chapter:
    """What was found with pictures of one weight."""

    album: Album
    series: dict[str, Series] = field(default_factory=lambda: {way: Series(way) for way in WAYS})
    singles: list[Single] = field(default_factory=list)  # without a pause


@dataclass
class Findings:
    plan: Plan
    chapters: list[Chapter]
    accepted: dict[int, list[Accepted]]  # by the number of URLs
    fetching: Fetching
    readings: Readings
    detections: list[Detected]


def measure(servers: Servers, plan: Plan, tell: Callable[[str], None]) -> Findings:
    """Run it all. Raises BenchError, TimeoutError or RuntimeError where something is not as it should be."""
    services.prepare(servers)
    albums = [pictures.draw(servers.root, weight, plan.pictures) for weight in plan.weights]
    accepted = {}
    for size in plan.accepted:
        accepted[size] = accept.measure(servers, albums[0].urls(servers.host.url, size), plan.rounds)
        for each in accepted[size]:
            tell(f"accept {size:,}: {each.post_seconds:.2f} s, bare insert {each.insert_seconds:.2f} s")
    chapters = [Chapter(album) for album in albums]
    for chapter in chapters:
        for _ in range(plan.rounds):
            _Round(servers, plan, chapter, tell).measure()
    fetched = fetching.Chapter(servers, albums[0], plan.fetching, pause=PAUSE, rounds=plan.rounds, tell=tell).measure()
    detections = detector.measure(plan.detected, plan.rounds, tell)
    return Findings(plan, chapters, accepted, fetched, reading.measure(servers, plan.reading, tell), detections)


class _Round:
    """Each way once, with pictures of one weight."""

    def __init__(self, servers: Servers, plan: Plan, chapter: Chapter, tell: Callable[[str], None]) -> None:
        self._servers = servers
        self._plan = plan
        self._chapter = chapter
        self._tell = tell

    def measure(self) -> None:
        urls, perimeter = self._work(self._plan.seed_images)
        self._note(SEED, seed.measure(self._servers, urls, perimeter))
        self._measure_ours(OURS, with_pause=True)
        self._measure_bare(BARE, PAUSE)
        self._measure_ours(OURS_NO_PAUSE, with_pause=False)
        self._measure_bare(BARE_NO_PAUSE, (0.0, 0.0))

    def _measure_ours(self, way: str, *, with_pause: bool) -> None:
        urls, perimeter = self._work(self._plan.images if with_pause else self._plan.no_pause_images)
        with ours.running(self._servers, with_pause=with_pause) as service:
            ours.warm_up(service, urls[: self._plan.warm_images])
            self._note(way, ours.measure(self._servers, service, urls, perimeter))
            if not with_pause:
                while len(self._chapter.singles) < self._plan.singles:
                    self._chapter.singles.append(ours.measure_single(service, urls[0]))

    def _measure_bare(self, way: str, pause: tuple[float, float]) -> None:
        urls, perimeter = self._work(self._plan.images if way == BARE else self._plan.no_pause_images)
        self._note(way, bare.measure(self._servers, urls, perimeter, pause))

    def _work(self, images: int) -> tuple[list[str], int]:
        """The URLs of ``images`` images and the sum of their perimeters."""
        album = self._chapter.album
        return album.urls(self._servers.host.url, images), images * album.weight.perimeter

    def _note(self, way: str, run: Run) -> None:
        self._chapter.series[way].runs.append(run)
        self._tell(f"{self._chapter.album.weight.name}, {way}: {run.rate:,.1f} images/s")
