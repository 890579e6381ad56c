"""``python -m bench.sharing``: jobs side by side, and beside hosts that fail; prints a table.

One service, two workers with the settings that ship, and a job after the other beside those that stay open. What is
compared is measured in the same run, alternating. The books are audited at the end.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import bulk, pictures, servers, services, stubborn, targets
from bench.pictures import WEIGHTS, Album
from bench.servers import DATABASE, BenchError, Servers
from bench.services import Posted, Service
from bench.targets import Target
from testbed.processes import PROJECT, wait_for

PARTS = ("big", "hanging", "names", "sizes", "retention", "pollers")
INTERRUPTED = 130
POLLERS = 50
POLL_SINGLE_SECONDS = 0.02
# A worker's file with the name servers, for it alone.
OWN_RESOLV_CONF = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


@dataclass(frozen=True)
class Plan:
    pictures: int
    rounds: int
    healthy: int
    hanging: int
    names: int
    big: int
    singles: int
    sizes: tuple[int, ...]
    old_jobs: int  # of 10,000 images, which leave beside a job
    settings: dict[str, str] = field(default_factory=dict)


FULL = Plan(
    pictures=50,
    rounds=3,
    healthy=1_000,
    hanging=10_000,
    names=5_000,
    big=50_000,
    singles=10,
    sizes=(1_000, 10_000, 100_000),
    old_jobs=100,
)
# Slow enough that a small job stays open for a while, beside hosts that are given up soon.
QUICK = {
    **{"SLOTS": "10", "GPU_PAUSE_MIN_SECONDS": "0.05", "GPU_PAUSE_MAX_SECONDS": "0.05"},
    **{"FETCH_TIMEOUT_SECONDS": "1", "RETRY_ATTEMPTS": "1"},
}
SHORT = Plan(
    pictures=3,
    rounds=1,
    healthy=40,
    hanging=30,
    names=30,
    big=1_200,
    singles=2,
    sizes=(20, 200),
    old_jobs=1,
    settings=QUICK,
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sharing", description=__doc__)
    parser.add_argument("--short", action="store_true", help="small numbers: shows that it runs, not how fast")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these (default: all)")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with servers.running() as started:
            rows = list(measure(started, SHORT if given.short else FULL, given.parts))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BenchError, TimeoutError, RuntimeError) as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    print(targets.table(rows))
    return 0


def measure(started: Servers, plan: Plan, parts: Sequence[str] = PARTS) -> Iterator[Target]:
    """Raises BenchError where a job does not end as it should or the books do not balance."""
    services.prepare(started)
    bulk.prepare(started.mariadb)
    album = pictures.draw(started.root, WEIGHTS[1], plan.pictures)
    environment = started.environment(AUTH="keys", RATE_LIMIT="off", **plan.settings)
    keys = [_make_key(environment, name) for name in ("first", "second")]
    with _names(started.folder) as prefix, services.running(started, environment, worker_prefix=prefix) as service:
        run = _Run(started, plan, album, [service.as_owner(key) for key in keys])
        run.warm_up()
        if "big" in parts:
            yield from run.beside_a_big_job()
        if "hanging" in parts:
            yield from run.beside_a_hanging_host()
        if "names" in parts and prefix:
            yield from run.names_that_do_not_exist()
        if "sizes" in parts:
            yield from run.sizes()
        if "retention" in parts:
            yield from run.beside_retention(environment)
        if "pollers" in parts:
            yield from run.beside_pollers()
    _audit(environment)


@contextmanager
def _names(folder: Path) -> Iterator[Sequence[str]]:
    """What gives a worker a name server that knows no name; nothing where that is not allowed here."""
    probe = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True)
    if os.getuid() or probe.returncode:
        _tell("names that do not exist are left out: they need root and a mount of one's own")
        yield ()
        return
    with stubborn.names(folder) as file:
        yield ["unshare", "--mount", "sh", "-c", OWN_RESOLV_CONF, str(file)]


def _make_key(environment: dict[str, str], label: str) -> str:
    return _command(environment, "keys", "create", "--label", label).strip()


def _command(environment: dict[str, str], *arguments: str) -> str:
    argv = [sys.executable, "-m", "app.cli", *arguments]
    done = subprocess.run(argv, env=os.environ | environment, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"imagejobs {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def _audit(environment: dict[str, str]) -> None:
    _tell(_command(environment, "audit").strip())


class _Run:
    def __init__(self, started: Servers, plan: Plan, album: Album, owners: Sequence[Service]) -> None:
        self._mariadb = started.mariadb
        self._host = started.host.url
        self._folder = started.folder
        self._plan = plan
        self._album = album
        self._keepers = owners
        self._pause = float(plan.settings.get("GPU_PAUSE_MAX_SECONDS", "0.4"))

    @property
    def _owners(self) -> Sequence[Service]:
        """With connections of their own: those that were idle for long may just be closed by the server."""
        return [owner.copy() for owner in self._keepers]

    def warm_up(self) -> None:
        self._rate(self._owners[0], self._plan.healthy)

    def _urls(self, images: int) -> list[str]:
        return self._album.urls(self._host, images)

    def _rate(self, owner: Service, images: int) -> float:
        """Images a second of a job of its own."""
        return self._rate_of_many(owner.copy(), 1, images)

    def _settled(self, posted: Posted, column: str = "done") -> int:
        query = f"SELECT images_{column} FROM jobs WHERE id = {posted.job_id}"
        [(images,)] = self._mariadb.execute(query, database=DATABASE)
        return int(images)

    def _errors(self, posted: Posted) -> dict[str, int]:
        query = f"SELECT error_code, COUNT(*) FROM images WHERE job_id = {posted.job_id} GROUP BY error_code"
        return {str(code): int(count) for code, count in self._mariadb.execute(query, database=DATABASE)}

    def _wait_for_images(self, posted: Posted, images: int) -> None:
        wait_for(lambda: self._settled(posted) >= images, 600, what=f"{images} images of job {posted.job_id}")

    def beside_a_big_job(self) -> Iterator[Target]:
        first, second = self._owners
        for owner, name in ((second, "another owner"), (first, "the same owner")):
            big = first.submit(self._urls(self._plan.big))
            self._wait_for_images(big, 1)
            singles = [self._single(owner) for _ in range(self._plan.singles)]
            first.copy().cancel(big)
            found = f"{statistics.median(singles):.2f} s, {max(singles):.2f} s at most"
            _tell(f"single of {name}: {found}")
            what = f"a job of 1 image of {name} beside one of {self._plan.big:,}"
            yield Target(f"{what}: within 2 s plus its pause", found, max(singles) <= 2 + self._pause)
        share = self._share()
        yield Target("two such jobs of different owners: about half each", f"{share:.2f}", 0.4 <= share <= 0.6)
        share = self._share(priority=6)
        yield Target("... the second of one priority more: two thirds for it", f"{share:.2f}", 0.57 <= share <= 0.77)

    def _single(self, owner: Service) -> float:
        posted = owner.submit(self._urls(1))
        return owner.wait_until_done(posted, 1, every=POLL_SINGLE_SECONDS) - posted.posted_at

    def _share(self, **more: int) -> float:
        """The part that the second of two large jobs gets while both run, over a tenth of its images."""
        part, (first, second) = self._plan.big // 10, self._owners
        one, other = first.submit(self._urls(self._plan.big)), second.submit(self._urls(self._plan.big), **more)
        self._wait_for_images(other, part)
        before = self._settled(one), self._settled(other)
        self._wait_for_images(other, before[1] + part)
        after = self._settled(one), self._settled(other)
        if after[0] + part > self._plan.big:
            raise BenchError("the large jobs are too small for this machine: nothing is left of one to compare with")
        for owner, posted in ((first, one), (second, other)):
            owner.copy().cancel(posted)
        share = (after[1] - before[1]) / (after[1] - before[1] + after[0] - before[0])
        _tell(f"share: {share:.2f}")
        return share

    def beside_a_hanging_host(self) -> Iterator[Target]:
        plan, (first, second) = self._plan, self._owners
        alone = [self._rate(second, plan.healthy) for _ in range(plan.rounds)]
        with stubborn.host(self._folder) as url:
            started = time.monotonic()
            hanging = first.submit([f"{url}/{number}.jpg" for number in range(plan.hanging)])
            time.sleep(1)  # so that it holds the transfers that it gets
            beside = [self._rate(second, plan.healthy) for _ in range(plan.rounds)]
            kept = statistics.median(beside) / statistics.median(alone)
            what = f"{plan.healthy:,} images beside {plan.hanging:,} on a host that hangs"
            found = f"{kept:.2f} ({statistics.median(beside):,.0f} of {statistics.median(alone):,.0f} images/s)"
            _tell(found)
            yield Target(f"{what}: at least 0.8 of its rate", found, kept >= 0.8)
            wait_for(lambda: self._settled(hanging, "open") == 0, 1800, what="the hanging job", every=0.5)
            seconds = time.monotonic() - started
        errors = self._errors(hanging)
        found = f"{seconds:,.0f} s, {errors}"
        _tell(found)
        is_met = seconds < 600 and set(errors) == {"timeout"}
        yield Target("... which ends with timeouts, within minutes", found, is_met)

    def names_that_do_not_exist(self) -> Iterator[Target]:
        images, owner = self._plan.names, self._owners[0]
        posted = owner.submit([f"http://host{number}.nowhere.example/1.jpg" for number in range(images)])
        seconds = owner.wait_until_done(posted, images) - posted.answered_at
        errors = self._errors(posted)
        found = f"{images / seconds:,.0f} a second, {errors}"
        _tell(found)
        is_met = images / seconds >= 100 and len(errors) == 1
        yield Target(f"{images:,} names that do not exist: at least 100 a second", found, is_met)

    def sizes(self) -> Iterator[Target]:
        rates: dict[int, list[float]] = {size: [] for size in self._plan.sizes}
        images = max(self._plan.sizes)
        for _ in range(self._plan.rounds):
            for size in self._plan.sizes:
                rates[size].append(self._rate_of_many(self._owners[0], images // size, size))
        medians = {size: statistics.median(found) for size, found in rates.items()}
        found = ", ".join(f"{size:,}: {rate:,.0f}" for size, rate in medians.items())
        _tell(f"images/s by size: {found}")
        is_met = min(medians.values()) >= 0.9 * max(medians.values())
        what = f"images/s of {images:,} images in jobs of one size"
        yield Target(f"{what}: within 10 % of each other", found, is_met)

    def _rate_of_many(self, owner: Service, jobs: int, images: int) -> float:
        """Images a second of jobs that are there together: a small one by itself would have little but its end."""
        urls = self._urls(images)
        posted = [owner.submit(urls) for _ in range(jobs)]
        ends = [owner.wait_until_done(each, jobs * images) for each in posted]
        for each in posted:
            if self._settled(each, "done") != images:
                raise BenchError(f"job {each.job_id} is not done: {self._errors(each)}")
        return jobs * images / (max(ends) - posted[0].answered_at)

    def beside_retention(self, environment: dict[str, str]) -> Iterator[Target]:
        images, owner = self._plan.sizes[-2], self._owners[0]
        visits = self._plan.old_jobs * bulk.VISITS_A_JOB
        for _ in bulk.fill(self._mariadb, visits=visits, first_job=1_000_000):
            pass
        alone = [self._rate(owner, images) for _ in range(self._plan.rounds)]
        argv = [sys.executable, "-m", "app.cli", "purge", "--days", "30"]
        with subprocess.Popen(argv, env=os.environ | environment, cwd=PROJECT, stdout=subprocess.DEVNULL) as purge:
            beside = [self._rate(owner, images) for _ in range(self._plan.rounds)]
            is_over = purge.poll() is not None
            if purge.wait():
                raise BenchError(f"the purge ended with {purge.returncode}")
        kept = statistics.median(beside) / statistics.median(alone)
        found = f"{kept:.2f}" + (" (it ended before the last of the jobs)" if is_over else "")
        _tell(f"beside retention: {found}")
        yield Target(f"{images:,} images while old jobs are deleted: at least 0.9 of its rate", found, kept >= 0.9)

    def beside_pollers(self) -> Iterator[Target]:
        images, owner = self._plan.sizes[-2], self._owners[0]
        alone, beside = [], []
        for _ in range(self._plan.rounds):
            alone.append(self._rate(owner, images))
            with _polled(self._owners[1], POLLERS):
                beside.append(self._rate(owner, images))
        kept = statistics.median(beside) / statistics.median(alone)
        _tell(f"beside {POLLERS} pollers: {kept:.2f}")
        what = f"{images:,} images while {POLLERS} poll a status, each once a second"
        yield Target(f"{what}: at least 0.95 of its rate", f"{kept:.2f}", kept >= 0.95)


@contextmanager
def _polled(owner: Service, pollers: int) -> Iterator[None]:
    """Each asks for the status of a job of its owner's once a second, until the block is left."""
    posted, is_over = owner.submit(["http://127.0.0.1:9/1.jpg"]), threading.Event()

    def poll(place: int) -> None:
        is_over.wait(place / pollers)
        own = owner.copy()
        while not is_over.is_set():
            own.status(posted.job_id)
            is_over.wait(1)

    with ThreadPoolExecutor(pollers) as threads:
        polling = [threads.submit(poll, place) for place in range(pollers)]
        try:
            yield
        finally:
            is_over.set()
    for each in polling:
        each.result()


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
