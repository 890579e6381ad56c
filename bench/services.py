"""This service as it ships, started part by part, and as its clients see it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests
from celery import Celery

from bench.runs import HOST, MARIADB, RECOVER, REDIS, WEB, WORKERS
from bench.servers import BenchError, Servers
from testbed import processes
from testbed.processes import PROJECT, Process, free_port, wait_for

STORES = PROJECT / "data" / "stores_sample.csv"
WORKER_PROCESSES = 2
IMAGES_A_VISIT = 10
START_SECONDS = 60.0
SECONDS_AN_IMAGE = 0.02
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Posted:
    """A job that was accepted; the times are seconds of the Unix clock."""

    job_id: int
    posted_at: float
    answered_at: float


class Service:
    """``pids`` are the leading processes by part, ``url`` has no slash at its end."""

    def __init__(self, url: str, pids: Mapping[str, Sequence[int]], key: str | None = None) -> None:
        self.pids = pids
        self.url = url
        self._stores = [line.rsplit(",", 1)[1] for line in STORES.read_text().splitlines()[1:]]
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy set for the outside must not see what stays on this machine
        self._key = key
        if key:
            self._session.headers["X-API-Key"] = key

    def as_owner(self, key: str) -> Service:
        """The same service, asked with this key."""
        return Service(self.url, self.pids, key)

    def copy(self) -> Service:
        """The same, for another thread."""
        return Service(self.url, self.pids, self._key)

    def status(self, job_id: int) -> Any:
        return _read(self._session.get(f"{self.url}/api/status", params={"jobid": job_id}, timeout=30), 200)

    def submit(self, urls: Sequence[str], **more: Any) -> Posted:
        """``more`` goes into the body as it is, e.g. ``priority``."""
        body = json.dumps(self._body(urls) | more).encode()
        posted_at = time.time()
        answer = self._session.post(f"{self.url}/api/submit/", data=body, timeout=60)
        return Posted(int(_read(answer, 201)["job_id"]), posted_at, time.time())

    def _body(self, urls: Sequence[str]) -> dict[str, Any]:
        visits = [
            {
                "store_id": self._stores[first // IMAGES_A_VISIT % len(self._stores)],
                "image_url": urls[first : first + IMAGES_A_VISIT],
                "visit_time": f"2020-09-02 {first // 3600 % 24:02}:{first // 60 % 60:02}:{first % 60:02}",
            }
            for first in range(0, len(urls), IMAGES_A_VISIT)
        ]
        return {"count": len(visits), "visits": visits}

    def wait_until_done(self, posted: Posted, images: int, *, every: float = POLL_SECONDS) -> float:
        """When the job was finished, in seconds of the Unix clock (the database's, on this same machine)."""
        seconds = START_SECONDS + SECONDS_AN_IMAGE * images
        wait_for(lambda: self._finished_at(posted.job_id), seconds, what=f"job {posted.job_id}", every=every)
        return datetime.fromisoformat(self._finished_at(posted.job_id)).timestamp()

    def cancel(self, posted: Posted) -> None:
        _read(self._session.post(f"{self.url}/api/jobs/{posted.job_id}/cancel", timeout=60), 200)

    def _finished_at(self, job_id: int) -> str:
        return self.status(job_id)["finished_at"] or ""


def _read(answer: requests.Response, status: int) -> Any:
    if answer.status_code != status:
        raise BenchError(f"the service answered {answer.status_code}: {answer.text[:500]}")
    return answer.json()


def prepare(servers: Servers) -> None:
    """Create the tables and load the stores."""
    argv = [sys.executable, "db_create.py", "--stores", str(STORES)]
    with Process(argv, env=servers.environment(), log=servers.folder / "db_create.log") as process:
        if process.wait():
            raise BenchError(f"db_create.py failed:\n{process.text[-2000:]}")


@contextmanager
def running(
    servers: Servers,
    environment: Mapping[str, str],
    *,
    workers: int = WORKER_PROCESSES,
    worker_prefix: Sequence[str] = (),
) -> Iterator[Service]:
    """The service, whose processes end with the block; with no ``workers`` it only accepts jobs."""
    port, logs = free_port(), servers.folder
    with ExitStack() as stack:

        def own(process: Process) -> Process:
            return stack.enter_context(process)  # killed at the latest when the block is left

        parts = {}
        if workers:
            names = [f"worker{number}" for number in range(1, workers + 1)]
            parts[WORKERS] = [
                own(processes.worker(environment, logs / f"{name}.log", name=name, prefix=worker_prefix))
                for name in names
            ]
            parts[RECOVER] = [own(processes.recover(environment, logs / "recover.log"))]
        parts[WEB] = [own(processes.web(environment, logs / "web.log", port=port))]
        _wait_for_workers(environment["REDIS_URL"], workers)
        pids = {name: [process.pid for process in part] for name, part in parts.items()}
        pids |= {MARIADB: [servers.mariadb.pid], REDIS: [servers.redis.pid], HOST: [servers.host.pid]}
        started = [process for part in parts.values() for process in part]
        try:
            yield Service(f"http://127.0.0.1:{port}", pids)
        except TimeoutError as error:
            raise BenchError(f"{error}; the last words of its processes:\n{_last_words(started)}") from error
        _stop(started)


def _last_words(running: Sequence[Process]) -> str:
    return "\n".join(f"{process.log.name}: {process.text[-1000:]}" for process in running)


def _stop(running: Sequence[Process]) -> None:
    """End all in order, at once: a worker takes a moment to give back what it holds."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(Process.stop, running):
            pass


def _wait_for_workers(broker: str, workers: int) -> None:
    with Celery(broker=broker) as celery:
        wait_for(
            lambda: not workers or len(celery.control.ping(timeout=0.5)) >= workers, START_SECONDS, what="the workers"
        )
