"""``python -m bench.web``: which gunicorn answers best: requests a second, and milliseconds (median, 95 of 100).

Each kind of server in turn (class, processes, threads), on the same MariaDB and Redis, asked by CLIENTS at once for
SECONDS for the status of a job, then with new jobs of 50 images; ROUNDS times around, so that whatever else the machine
does meets all alike. Prints a table for docs/deploying.md.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from testbed.mariadb import MariaDB
from testbed.processes import PROJECT, Process, free_port, wait_for
from testbed.redis import Redis

CLIENTS = int(os.environ.get("CLIENTS") or 16)
SECONDS = float(os.environ.get("SECONDS") or 4)
ROUNDS = int(os.environ.get("ROUNDS") or 3)
# gunicorn's class, its processes, the threads of each.
KINDS = (
    ("sync", 1, 1),
    ("sync", 2, 1),
    ("sync", 4, 1),
    ("gthread", 1, 4),
    ("gthread", 1, 8),
    ("gthread", 1, 16),
    ("gthread", 2, 8),
    ("gthread", 4, 8),
)
STORES = "AreaCode,StoreName,StoreID\n710006,BHARAT STORE,S00339218\n"
VISIT = {"store_id": "S00339218", "visit_time": 0, "image_url": [f"http://127.0.0.1:9/{n}.jpg" for n in range(50)]}
SUBMIT = json.dumps({"count": 1, "visits": [VISIT]}).encode()
# What is asked for, by what is measured: method, path, body, the status that is right.
ROUTES = {
    "status": ("GET", "/api/status?jobid=1", None, 200),
    "submit": ("POST", "/api/submit/", SUBMIT, 201),
}


@dataclass
class Measured:
    rates: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        cuts = statistics.quantiles(self.milliseconds, n=20)
        return f"{statistics.median(self.rates):.0f} | {cuts[9]:.0f} | {cuts[18]:.0f}"


class Client(threading.Thread):
    """Asks again as soon as it has its answer, by a connection that it keeps where the server does."""

    def __init__(self, port: int, route: str, until: float) -> None:
        super().__init__()
        self._port, self._route, self._until = port, ROUTES[route], until
        self.milliseconds: list[float] = []

    def run(self) -> None:
        method, path, body, right = self._route
        headers = {"Content-Type": "application/json"} if body else {}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        while time.monotonic() < self._until:
            begun = time.monotonic()
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != right:
                raise RuntimeError(f"{path} was answered {answer.status}")
            self.milliseconds.append(1000 * (time.monotonic() - begun))
        connection.close()


def measure(port: int, route: str, *, seconds: float = SECONDS) -> tuple[float, list[float]]:
    """Requests a second, and how long each took."""
    begun = time.monotonic()
    clients = [Client(port, route, begun + seconds) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    taken = [each for client in clients for each in client.milliseconds]
    return len(taken) / (time.monotonic() - begun), taken


def server(kind: tuple[str, int, int], env: dict[str, str], port: int, log: Path) -> Process:
    worker_class, workers, threads = kind
    argv = [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "--bind", f"127.0.0.1:{port}"]
    argv += ["--worker-class", worker_class, "--workers", str(workers), "--threads", str(threads)]
    return Process(argv, env=env, log=log)


def has_started(process: Process, workers: int) -> bool:
    """Whether all its processes have loaded the service: they are there, and compute no more."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    before = _ticks(children)
    time.sleep(1)
    return len(children) == workers and 0 < before == _ticks(children)


def _ticks(pids: list[str]) -> int:
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields)


def main() -> int:
    found: defaultdict[tuple[tuple[str, int, int], str], Measured] = defaultdict(Measured)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imagejobs-bench-")))
        mariadb, redis = stack.enter_context(MariaDB()), stack.enter_context(Redis())
        env = {"DATABASE_URL": mariadb.create_database("web"), "REDIS_URL": redis.url, "DATA_DIR": str(folder)}
        env |= {"QUEUE_MAX_IMAGES": str(10**9)}
        (folder / "stores.csv").write_text(STORES)
        argv = [sys.executable, "db_create.py", "--stores", str(folder / "stores.csv")]
        subprocess.run(argv, cwd=PROJECT, env=os.environ | env, check=True, stdout=subprocess.DEVNULL)
        for _ in range(ROUNDS):
            for kind in KINDS:
                port = free_port()
                with server(kind, env, port, folder / "web.log") as process:
                    wait_for(partial(has_started, process, kind[1]), 120, what="gunicorn's processes", every=0.5)
                    for route in ("submit", "status"):
                        measure(port, route, seconds=1)  # each process loads what it needs
                        rate, milliseconds = measure(port, route)
                        found[kind, route].rates.append(rate)
                        found[kind, route].milliseconds += milliseconds
    print("| class, processes x threads | status a second | ms | 95 % | submits a second | ms | 95 % |")
    print("|---|---|---|---|---|---|---|")
    for kind in KINDS:
        name = f"{kind[0]} {kind[1]} x {kind[2]}"
        print(f"| {name} | {found[kind, 'status']} | {found[kind, 'submit']} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
