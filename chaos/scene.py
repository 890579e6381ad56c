"""The service that is tried: real servers and processes on loopback, and workers that are restarted when they die."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pymysql
import requests
from PIL import Image

from chaos.plan import Plan
from demo.host import Host
from testbed import processes
from testbed.mariadb import MariaDB
from testbed.processes import PROJECT, Process, free_port
from testbed.proxy import Proxy
from testbed.redis import Redis

DATABASE = "chaos"
STORE = "S00339218"
IMAGES_A_VISIT = 10
RESTART_SECONDS = 0.5
# In the statement that writes results: cutting any other COMMIT would prove less.
WRITES_RESULTS = b"STRAIGHT_JOIN images SET"


class Scene:
    """Call everything from the main thread: the kernel ties the processes' lives to it."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.mariadb = MariaDB()
        self.redis = Redis()
        self.proxy = Proxy(self.mariadb.port, marker=WRITES_RESULTS)
        self.host = Host(pictures(folder, plan.images))
        self.workers: list[Worker] = []
        self.web_url = ""

    def start(self, stack: ExitStack) -> None:
        for server in (self.mariadb, self.redis, self.proxy, self.host):
            stack.enter_context(server)
        self.mariadb.create_database(DATABASE)
        direct = self._environment(self.mariadb.port)
        _create_tables(self.folder, direct)
        port = free_port()
        stack.enter_context(processes.web(direct, self.folder / "web.log", port=port))
        self.web_url = f"http://127.0.0.1:{port}"
        stack.enter_context(processes.recover(direct, self.folder / "recover.log"))
        through_proxy = self._environment(self.proxy.port)
        for number in range(self.plan.workers):
            name = f"worker{number}"
            worker = Worker(processes.worker(through_proxy, self.folder / f"{name}.log", name=name))
            stack.callback(worker.process.kill)
            self.workers.append(worker)

    def _environment(self, database_port: int) -> dict[str, str]:
        return {
            "DATABASE_URL": self.mariadb.url(DATABASE).replace(f":{self.mariadb.port}/", f":{database_port}/"),
            "REDIS_URL": self.redis.url,
            "DATA_DIR": str(self.folder),
            "LEASE_SECONDS": str(self.plan.lease_seconds),
            "RECOVER_SECONDS": "1",
            # Few in flight, so that the job lasts long enough for all that is to happen to it.
            "SLOTS": "20",
            "CHUNK_SIZE": "20",
            "SLICE_SECONDS": "3",
            "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
        }

    def submit(self) -> int:
        """Submit the one job; each of its images has an address of its own."""
        urls = [f"{self.host.url}/{number}.jpg" for number in range(self.plan.images)]
        visits = [
            {"store_id": STORE, "image_url": urls[at : at + IMAGES_A_VISIT], "visit_time": "2020-09-02T00:00:53Z"}
            for at in range(0, len(urls), IMAGES_A_VISIT)
        ]
        answer = requests.post(f"{self.web_url}/api/submit/", json={"count": len(visits), "visits": visits}, timeout=60)
        answer.raise_for_status()
        return int(answer.json()["job_id"])

    def status(self, job_id: int) -> dict[str, Any] | None:
        """What a client is told; None where it is asked to come again."""
        answer = requests.get(f"{self.web_url}/api/status", params={"jobid": job_id}, timeout=30)
        if answer.status_code == 503 and "Retry-After" in answer.headers:
            return None
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def find(self, statement: str) -> list[tuple[Any, ...]] | None:
        """The rows of a query; None while MariaDB is away."""
        try:
            return self.mariadb.execute(statement, database=DATABASE)
        except pymysql.err.OperationalError:
            return None

    def audit(self) -> str:
        """What ``imagejobs audit`` says; empty where it finds nothing."""
        argv = [sys.executable, "-m", "app.cli", "audit"]
        env = os.environ | self._environment(self.mariadb.port)
        done = subprocess.run(argv, cwd=PROJECT, env=env, capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}"


class Worker:
    """One worker process under supervision: ``tend`` starts it again some time after it has ended."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.is_frozen = False
        self.is_ending = False
        self._ended_at: float | None = None

    @property
    def is_at_work(self) -> bool:
        return self.process.is_alive and not (self.is_frozen or self.is_ending)

    @property
    def name(self) -> str:
        """As it stands in ``chunks.claimed_by``."""
        return f"{os.uname().nodename[:80]}:{self.process.pid}"

    def tend(self) -> None:
        if self.process.is_alive:
            return
        if self._ended_at is None:
            self._ended_at = time.monotonic()
        elif time.monotonic() - self._ended_at >= RESTART_SECONDS:
            self.process.start()
            self._ended_at, self.is_ending, self.is_frozen = None, False, False


@contextmanager
def running(plan: Plan) -> Iterator[Scene]:
    """A started service in a temporary folder; nothing of it is left behind."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imagejobs-chaos-")))
        scene = Scene(plan, folder)
        stack.callback(scene.mariadb.close)
        stack.callback(scene.redis.close)
        scene.start(stack)
        yield scene


def pictures(folder: Path, images: int) -> Path:
    """As many names for a few small pictures, in ``folder / "pictures"``."""
    target = folder / "pictures"
    target.mkdir()
    for number in range(min(images, 10)):
        Image.new("RGB", (64, 48), (20 * number, 90, 90)).save(target / f"{number}.jpg")
    for number in range(10, images):
        (target / f"{number}.jpg").hardlink_to(target / f"{number % 10}.jpg")
    return target


def _create_tables(folder: Path, environment: dict[str, str]) -> None:
    stores = folder / "stores.csv"
    with stores.open("w", newline="") as file:
        csv.writer(file).writerows([("AreaCode", "StoreName", "StoreID"), ("710006", "BHARAT STORE", STORE)])
    argv = [sys.executable, "db_create.py", "--stores", str(stores)]
    subprocess.run(argv, cwd=PROJECT, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
