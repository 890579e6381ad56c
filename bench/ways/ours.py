"""Way (b): this service with the settings that ship: web, two worker processes, recover."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bench import books, services
from bench.costs import CORES, Meter, peak_mb
from bench.runs import WORKERS, Run
from bench.servers import Servers
from bench.services import WORKER_PROCESSES, Posted, Service
from config import Settings

NO_PAUSE = {"GPU_PAUSE_MIN_SECONDS": "0", "GPU_PAUSE_MAX_SECONDS": "0"}
SLOTS = WORKER_PROCESSES * int(Settings.model_fields["SLOTS"].default)
# After so long the workers are idle again, and wait for a bell; the jitter keeps us out of step with their looks.
IDLE_SECONDS, IDLE_JITTER_SECONDS = 0.7, 0.3
POLL_SINGLE_SECONDS = 0.02


@dataclass(frozen=True)
class Single:
    """Seconds from the POST of one image to its finish, and to its answer."""

    total_seconds: float
    post_seconds: float


def running(servers: Servers, *, with_pause: bool) -> AbstractContextManager[Service]:
    """The whole service, with the pause that ships or with none."""
    return services.running(servers, servers.environment(**({} if with_pause else NO_PAUSE)))


def warm_up(service: Service, urls: Sequence[str]) -> None:
    """One job that is not measured: connections open, statements are compiled, caches fill."""
    service.wait_until_done(service.submit(urls), len(urls))
    time.sleep(IDLE_SECONDS)


def measure(servers: Servers, service: Service, urls: Sequence[str], perimeter: int) -> Run:
    """One job of ``urls``, from its POST's answer to its finish. Raises BenchError where its books do not balance."""
    return measure_job(servers, service, urls, perimeter)[0]


def measure_job(servers: Servers, service: Service, urls: Sequence[str], perimeter: int) -> tuple[Run, Posted]:
    meter = Meter(service.pids)
    posted = service.submit(urls)
    working = Meter({})
    finished_at = service.wait_until_done(posted, len(urls))
    spent, worked = meter.read(), working.read()
    books.check(servers.mariadb, posted.job_id, images=len(urls), perimeter=perimeter)
    seconds = finished_at - posted.answered_at
    # We look for the end now and then only; after it nobody works.
    busy = worked.machine / (seconds * CORES)
    slots_used = books.seconds_in_slots(servers.mariadb, posted.job_id) / seconds / SLOTS
    peak = max(map(peak_mb, service.pids[WORKERS]))
    return Run(len(urls), seconds, spent, peak, busy, slots_used), posted


def measure_single(service: Service, url: str) -> Single:
    """One job of one image, on an idle service."""
    time.sleep(IDLE_SECONDS + random.uniform(0, IDLE_JITTER_SECONDS))
    posted = service.submit([url])
    finished_at = service.wait_until_done(posted, 1, every=POLL_SINGLE_SECONDS)
    return Single(finished_at - posted.posted_at, posted.answered_at - posted.posted_at)
