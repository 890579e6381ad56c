"""What hangs on how images are fetched: HTTPS, the client, programs that others use, slots in use, memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench import rivals, services, slots
from bench.costs import peak_mb
from bench.pictures import Album
from bench.runs import WORKERS, Run, Series
from bench.servers import BenchError, Servers
from bench.slots import Timeline
from bench.ways import bare, img2dataset, ours
from bench.ways.bare import AIOHTTP, PYCURL
from testbed.processes import wait_for

SECURE, BARE_SECURE = "(b) ours, HTTPS", "(c) bare limit, HTTPS"
NO_PAUSE = (0.0, 0.0)
LOG_SECONDS = 10.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Sizes:
    """Images of a job or a run of each kind; ``memory_jobs`` of ``memory_images`` are worked on by one process."""

    secure: int
    client: int
    rival: int
    slots: int
    memory: int
    memory_jobs: int
    memory_slots: int = 1_000
    installs_rivals: bool = True


@dataclass
class Fetching:
    sizes: Sizes
    secure: dict[str, Series] = field(default_factory=lambda: {way: Series(way) for way in (SECURE, BARE_SECURE)})
    clients: dict[tuple[str, str], Series] = field(default_factory=dict)  # by client and scheme
    rivals: dict[int, Series] = field(default_factory=dict)  # img2dataset by its best threads; none: not installed
    timelines: list[Timeline] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)  # MB of one worker process, after each of its jobs

    @property
    def best_rival(self) -> Series | None:
        return next(iter(self.rivals.values()), None)


class Chapter:
    """Everything with pictures of one album; call ``measure`` once."""

    def __init__(
        self, servers: Servers, album: Album, sizes: Sizes, *, pause: tuple[float, float], rounds: int, tell: Tell
    ) -> None:
        self._servers = servers
        self._album = album
        self._sizes = sizes
        self._pause = pause
        self._rounds = rounds
        self._tell = tell
        self._found = Fetching(sizes)

    def measure(self) -> Fetching:
        """Raises BenchError, TimeoutError or RuntimeError where something is not as it should be."""
        has_rivals = rivals.install(self._tell) if self._sizes.installs_rivals else rivals.is_installed()
        for _ in range(self._rounds):
            self._measure_secure()
            for client in (PYCURL, AIOHTTP) if has_rivals else (PYCURL,):
                self._measure_client(client)
        if has_rivals:
            self._measure_rivals()
        self._measure_slots()
        self._measure_memory()
        return self._found

    def _work(self, images: int, *, secure: bool = False) -> tuple[list[str], int]:
        host = self._servers.host.secure_url if secure else self._servers.host.url
        return self._album.urls(host, images), images * self._album.weight.perimeter

    def _measure_secure(self) -> None:
        urls, perimeter = self._work(self._sizes.secure, secure=True)
        with ours.running(self._servers, with_pause=True) as service:
            ours.warm_up(service, urls[: len(urls) // 5])
            self._note(self._found.secure[SECURE], ours.measure(self._servers, service, urls, perimeter))
        self._note(self._found.secure[BARE_SECURE], bare.measure(self._servers, urls, perimeter, self._pause))

    def _measure_client(self, client: bare.Client) -> None:
        for scheme in ("http", "https"):
            urls, perimeter = self._work(self._sizes.client, secure=scheme == "https")
            run = bare.measure(self._servers, urls, perimeter, NO_PAUSE, client=client)
            name = f"{client.name}, {scheme}"
            self._note(self._found.clients.setdefault((client.name, scheme), Series(name)), run)

    def _measure_rivals(self) -> None:
        """Once with each number of threads, then as often as there are rounds with the best."""
        for threads in img2dataset.THREADS:
            self._measure_rival(threads, self._sizes.rival // 2)
        best = max(self._found.rivals, key=lambda threads: self._found.rivals[threads].rate)
        self._found.rivals.clear()
        for _ in range(self._rounds):
            self._measure_rival(best, self._sizes.rival)

    def _measure_rival(self, threads: int, images: int) -> None:
        urls, _ = self._work(images)
        series = self._found.rivals.setdefault(threads, Series(f"(d) img2dataset, {threads} threads"))
        self._note(series, img2dataset.measure(self._servers, urls, threads))

    def _measure_slots(self) -> None:
        urls, perimeter = self._work(self._sizes.slots)
        with ours.running(self._servers, with_pause=True) as service:
            ours.warm_up(service, urls[: len(urls) // 5])
            for _ in range(self._rounds):
                self._servers.host.forget_slots()
                _, posted = ours.measure_job(self._servers, service, slots.marked(urls), perimeter)
                wait_for(lambda: len(self._servers.host.slots()) >= len(urls), LOG_SECONDS, what="the host's log")
                timeline = slots.read(self._servers, posted, ours.SLOTS)
                self._found.timelines.append(timeline)
                self._tell(f"slots in use: {timeline.part:.0%}")

    def _measure_memory(self) -> None:
        urls, perimeter = self._work(self._sizes.memory)
        environment = self._servers.environment(**ours.NO_PAUSE, SLOTS=str(self._sizes.memory_slots))
        with services.running(self._servers, environment, workers=1) as service:
            [worker] = service.pids[WORKERS]
            for _ in range(self._sizes.memory_jobs):
                ours.measure(self._servers, service, urls, perimeter)
                self._found.peaks.append(peak_mb(worker))
        first, last = self._found.peaks[0], self._found.peaks[-1]
        self._tell(f"peak memory: {first:.0f} MB after the first job, {last:.0f} MB at last")

    def _note(self, series: Series, run: Run) -> None:
        series.runs.append(run)
        self._tell(f"{series.way}: {run.rate:,.1f} images/s")


def median_timeline(timelines: Sequence[Timeline]) -> Timeline:
    """That of which the part in use is the median; of an even number the lower one."""
    if not timelines:
        raise BenchError("no timeline was measured")
    return sorted(timelines, key=lambda each: each.part)[(len(timelines) - 1) // 2]
