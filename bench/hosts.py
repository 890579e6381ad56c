"""``make hosts``: one host with MariaDB, Redis and web, one with the images, and one, two and three with workers.

Each is a network namespace of this machine. The slots of a worker are few, so that they, and not the cores that all
share, are the limit. In the end one host is cut off in the middle of a job, and comes back.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pymysql
from celery import Celery

from bench import books, network, pictures, services, targets
from bench.network import CORE_ADDRESS, NETWORK, Host
from bench.pictures import WEIGHTS, Album
from bench.servers import DATABASE, BenchError
from bench.services import Posted, Service
from bench.targets import Target
from config import Settings
from testbed import processes
from testbed.mariadb import PASSWORD, USER, MariaDB
from testbed.nginx import CONFIG, FILES
from testbed.processes import PROJECT, Process, free_port, wait_for
from testbed.redis import Redis
from testbed.server import program

IMAGES_HOST, WORKER_HOSTS = "images", ("one", "two", "three")
LINEAR = 0.9
SKIPPED, INTERRUPTED = 3, 130
IMAGES_PORT = 8080
# How long after the end of a lease another worker may take to find the chunk.
FIND_SECONDS = 15


@dataclass(frozen=True)
class Plan:
    pictures: int
    rounds: int
    images_a_host: int
    slots: int
    counts: tuple[int, ...]  # of worker hosts, the first being what the others are compared with
    lease_seconds: int


FULL = Plan(pictures=50, rounds=3, images_a_host=4_000, slots=64, counts=(1, 2, 3), lease_seconds=10)
SHORT = Plan(pictures=3, rounds=1, images_a_host=150, slots=20, counts=(2,), lease_seconds=3)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hosts", description=__doc__)
    parser.add_argument("--short", action="store_true", help="small numbers: shows that it runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found there too")
    parser.add_argument("--inside", metavar="TAG", help=argparse.SUPPRESS)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if not given.inside:
            return _enter(sys.argv[1:])
        found = _measure(given.inside, SHORT if given.short else FULL)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BenchError, TimeoutError, RuntimeError) as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    print(targets.table(found))
    if given.json:
        given.json.write_text(json.dumps([asdict(each) for each in found]))
    return 0


def measure(*, is_short: bool) -> list[Target]:
    """By a process of its own; nothing where no network namespaces can be made here. Raises BenchError."""
    with tempfile.TemporaryDirectory(prefix="imagejobs-hosts-") as folder:
        file = Path(folder) / "found.json"
        code = _enter([*(["--short"] if is_short else []), "--json", str(file)])
        if code == SKIPPED:
            return []
        if code == -signal.SIGINT or code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            raise BenchError(f"the benchmark of hosts ended with {code}")
        return [Target(**each) for each in json.loads(file.read_text())]


def _enter(arguments: Sequence[str]) -> int:
    """Make the hosts, and go on in the core."""
    if reason := network.why_not():
        print(f"Left out: no network namespaces can be made here ({reason}).", file=sys.stderr)
        return SKIPPED
    tag = f"ij{os.getpid()}"
    with network.running(tag, _hosts(tag)) as prefix:
        argv = [*prefix, sys.executable, "-m", "bench.hosts", *arguments, "--inside", tag]
        child = subprocess.Popen(argv, cwd=PROJECT)
        try:
            return child.wait()
        finally:
            child.terminate()
            child.wait()


def _hosts(tag: str) -> list[Host]:
    return network.plan(tag, (IMAGES_HOST, *WORKER_HOSTS))


def _measure(tag: str, plan: Plan) -> list[Target]:
    images, *workers = _hosts(tag)
    with _rig(images, plan) as rig:
        rates: dict[int, list[float]] = {count: [] for count in plan.counts}
        for _ in range(plan.rounds):
            for count, found in rates.items():
                with rig.workers(workers[:count]):
                    found.append(rig.rate(plan.images_a_host * count))
                _tell(f"{count} hosts: {found[-1]:,.0f} images/s")
        with rig.workers(workers):
            cut = rig.cut_off(workers[-1], plan.images_a_host * len(workers))
        rig.audit()
    return [*_growth({count: statistics.median(found) for count, found in rates.items()}), cut]


def _growth(rates: dict[int, float]) -> Iterator[Target]:
    (first, alone), *_ = rates.items()
    for count, rate in rates.items():
        of_linear = rate / (count / first * alone)
        wanted = f"{count} worker hosts: at least {LINEAR:g} of linear"
        yield Target(wanted, f"{of_linear:.2f} ({rate:,.0f} images/s)", of_linear >= LINEAR)


@contextmanager
def _rig(images: Host, plan: Plan) -> Iterator[_Rig]:
    with tempfile.TemporaryDirectory(prefix="imagejobs-hosts-", ignore_cleanup_errors=True) as name, ExitStack() as on:
        folder = Path(name)
        (folder / "root").mkdir()
        mariadb = on.enter_context(MariaDB(options=["--bind-address=0.0.0.0"]))
        _let_in(mariadb)
        mariadb.create_database(DATABASE)
        redis = on.enter_context(Redis())
        with redis.client() as client:
            client.config_set("protected-mode", "no")
            client.config_set("bind", f"127.0.0.1 {CORE_ADDRESS}")
        album = pictures.draw(folder / "root", WEIGHTS[1], plan.pictures)
        on.enter_context(_serve(images, folder))
        yield _Rig(mariadb, redis, album, folder, plan, images)


def _let_in(mariadb: MariaDB) -> None:
    """The other hosts too; root comes by the socket."""
    with pymysql.connect(unix_socket=str(mariadb.folder / "s"), user="root") as root, root.cursor() as cursor:
        cursor.execute(f"CREATE USER '{USER}'@'10.77.0.%%' IDENTIFIED BY '{PASSWORD}'", ())
        cursor.execute(f"GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'10.77.0.%%'", ())


def _serve(images: Host, folder: Path) -> Process:
    """nginx with the pictures, on its host."""
    site = FILES.format(port=IMAGES_PORT, root=folder / "root", folder=folder, secure="")
    site = site.replace("127.0.0.1", images.address)
    options = {"as_root": "user root;", "folder": folder, "workers": 1}
    (folder / "nginx.conf").write_text(CONFIG.format(**options, site=site))
    argv = [program("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    return Process([*images.prefix, *argv], log=folder / "nginx.log")


class _Rig:
    """The core: MariaDB, Redis, and for each set of worker hosts a web server and a recover loop."""

    def __init__(self, mariadb: MariaDB, redis: Redis, album: Album, folder: Path, plan: Plan, images: Host) -> None:
        self._mariadb = mariadb
        self._redis = redis
        self._album = album
        self._folder = folder
        self._plan = plan
        self._url = f"http://{images.address}:{IMAGES_PORT}"
        self._service: Service | None = None
        self._pids: dict[Host, int] = {}
        services.prepare(self)  # type: ignore[arg-type]

    folder = property(lambda self: self._folder)

    def environment(self, address: str = "127.0.0.1") -> dict[str, str]:
        """The service's settings as seen from a host: ``address`` is where MariaDB and Redis are."""
        return dict.fromkeys(Settings.model_fields, "") | {
            "DATABASE_URL": self._mariadb.url(DATABASE).replace("127.0.0.1", address),
            "REDIS_URL": self._redis.url.replace("127.0.0.1", address),
            "DATA_DIR": str(self._folder / "data"),
            "FETCH_ALLOWED_NETWORKS": NETWORK,
            "SLOTS": str(self._plan.slots),
            "LEASE_SECONDS": str(self._plan.lease_seconds),
        }

    @contextmanager
    def workers(self, hosts: Sequence[Host]) -> Iterator[None]:
        port, remote = free_port(), self.environment(CORE_ADDRESS)
        with ExitStack() as on:
            for host in hosts:
                log = self._folder / f"{host.name}.log"
                process = on.enter_context(processes.worker(remote, log, name=host.name, prefix=host.prefix))
                self._pids[host] = process.pid
            on.enter_context(processes.recover(self.environment(), self._folder / "recover.log"))
            on.enter_context(processes.web(self.environment(), self._folder / "web.log", port=port))
            with Celery(broker=self._redis.url) as celery:
                wait_for(lambda: len(celery.control.ping(timeout=0.5)) >= len(hosts), 60, what="the workers")
            self._service = Service(f"http://127.0.0.1:{port}", {})
            self.rate(self._plan.slots * len(hosts))  # what is started up by the first images
            yield

    def _submit(self, images: int) -> Posted:
        assert self._service
        return self._service.submit(self._album.urls(self._url, images))

    def _finish(self, posted: Posted, images: int) -> float:
        assert self._service
        finished_at = self._service.wait_until_done(posted, images)
        perimeter = images * self._album.weight.perimeter
        books.check(self._mariadb, posted.job_id, images=images, perimeter=perimeter)
        return finished_at

    def rate(self, images: int) -> float:
        posted = self._submit(images)
        return images / (self._finish(posted, images) - posted.answered_at)

    def cut_off(self, host: Host, images: int) -> Target:
        """Take the host's link down in the middle of a job, and up again after it: what that cost."""
        alone = images / self.rate(images)
        posted = self._submit(images)
        wait_for(lambda: self._done(posted) > images // 4, 120, what="a quarter of the job")
        host.cut_off()
        cut_at = time.time()
        held = self._chunks_of(host, posted, "due_at > UTC_TIMESTAMP(6)")
        if not held:
            raise BenchError(f"{host.name} held nothing of the job when it was cut off")
        finished_at = self._finish(posted, images)
        host.connect()
        self._wait_until_it_works(host)
        seconds = finished_at - posted.answered_at
        # What is left is shared by the others, and what it held is due when its leases are over.
        lease = self._plan.lease_seconds
        most = cut_at - posted.answered_at + max(alone * 1.5, lease + FIND_SECONDS) + alone / 2
        return Target(
            f"a host is cut off in the middle of a job of {images:,} images: that costs what it held until its leases "
            f"of {lease} s end, and nothing else",
            f"{seconds:.0f} s instead of {alone:.0f} s with {held} chunks in hand; every image done once; "
            "back, it works on",
            seconds <= most,
        )

    def _done(self, posted: Posted) -> int:
        return self._number(f"SELECT images_done FROM jobs WHERE id = {posted.job_id}")

    def _chunks_of(self, host: Host, posted: Posted, condition: str = "TRUE") -> int:
        is_its = f"job_id = {posted.job_id} AND claimed_by LIKE '%:{self._pids[host]}'"
        return self._number(f"SELECT COUNT(*) FROM chunks WHERE {is_its} AND {condition}")

    def _number(self, query: str) -> int:
        [(number,)] = self._mariadb.execute(query, database=DATABASE)
        return int(number)

    def _wait_until_it_works(self, host: Host) -> None:
        def works() -> bool:
            images = self._plan.images_a_host
            posted = self._submit(images)
            self._finish(posted, images)
            return self._chunks_of(host, posted) > 0

        wait_for(works, 120, what=f"{host.name} to work again")

    def audit(self) -> None:
        argv = [sys.executable, "-m", "app.cli", "audit"]
        environment = os.environ | self.environment()
        done = subprocess.run(argv, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"the audit found: {done.stdout}{done.stderr}")
        _tell(done.stdout.strip())


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
