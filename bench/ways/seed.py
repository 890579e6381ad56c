"""Way (a): the plain loop of ``bench.seed``, in one worker of Celery's solo pool."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from celery import Celery

from bench.costs import Meter, peak_mb
from bench.runs import HOST, MARIADB, REDIS, WORKERS, Run
from bench.servers import DATABASE, BenchError, Servers
from testbed.processes import Process, wait_for

# The bells of the service ring in database 0.
BROKER_DATABASE = "/1"
TASK = "seed.work"
SECONDS_AN_IMAGE = 2.0
START_SECONDS = 60.0

CREATE = """\
CREATE OR REPLACE TABLE seed_images (
    job_id INT, seq INT, url TEXT NOT NULL, perimeter INT, done_at DATETIME(6), PRIMARY KEY (job_id, seq)
)"""


def measure(servers: Servers, urls: Sequence[str], perimeter: int) -> Run:
    """One job of ``urls`` after a small one that warms up. Raises BenchError for a wrong sum of perimeters."""
    broker = servers.redis.url.removesuffix("/0") + BROKER_DATABASE
    # requests would send even what stays on this machine to a proxy that is set for the outside.
    environment = servers.environment(REDIS_URL=broker, NO_PROXY="*", no_proxy="*")
    servers.mariadb.execute(CREATE, database=DATABASE)
    argv = [sys.executable, "-m", "celery", "-A", "bench.seed", "worker", "--pool=solo", "--loglevel=WARNING"]
    with Celery(broker=broker) as celery, Process(argv, env=environment, log=servers.folder / "seed.log") as worker:
        _work(servers, celery, worker, 1, urls[:2])
        meter = Meter(
            {
                WORKERS: [worker.pid],
                MARIADB: [servers.mariadb.pid],
                REDIS: [servers.redis.pid],
                HOST: [servers.host.pid],
            }
        )
        started = time.time()
        _work(servers, celery, worker, 2, urls)
        spent = meter.read()
        done_at, found = _books(servers, 2)
        if found != perimeter:
            raise BenchError(f"the seed's perimeters sum up to {found} instead of {perimeter}")
        return Run(len(urls), done_at - started, spent, peak_mb(worker.pid), spent.busy)


def _work(servers: Servers, celery: Celery, worker: Process, job_id: int, urls: Sequence[str]) -> None:
    rows = ", ".join(f"({job_id}, {seq}, '{url}')" for seq, url in enumerate(urls))
    servers.mariadb.execute(f"INSERT INTO seed_images (job_id, seq, url) VALUES {rows}", database=DATABASE)
    celery.send_task(TASK, [job_id])
    seconds = START_SECONDS + SECONDS_AN_IMAGE * len(urls)
    wait_for(lambda: _is_done(servers, job_id) or not worker.is_alive, seconds, what="the seed's loop", every=0.2)
    if not worker.is_alive:
        raise BenchError(f"the seed's worker ended:\n{worker.text[-2000:]}")


def _is_done(servers: Servers, job_id: int) -> bool:
    query = f"SELECT COUNT(*) FROM seed_images WHERE job_id = {job_id} AND done_at IS NULL"
    return servers.mariadb.execute(query, database=DATABASE) == [(0,)]


def _books(servers: Servers, job_id: int) -> tuple[float, int]:
    """When the last image was done, in seconds of the Unix clock, and the sum of the perimeters."""
    epoch = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', MAX(done_at))"
    query = f"SELECT {epoch}, SUM(perimeter) FROM seed_images WHERE job_id = {job_id}"
    [(microseconds, perimeter)] = servers.mariadb.execute(query, database=DATABASE)
    return microseconds / 1e6, int(perimeter)
