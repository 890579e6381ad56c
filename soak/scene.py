"""The service in the shape of production, on loopback: nginx with TLS, gunicorn on a socket, two workers, recover,
deliver, MariaDB and Redis, a host of images and a receiver of webhooks. The first worker and the web server are never
killed: it is their memory that is watched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import requests

from chaos.scene import Worker, pictures
from demo.host import Host
from testbed import processes
from testbed.mariadb import MariaDB
from testbed.nginx import Front
from testbed.processes import PROJECT, Process, wait_for
from testbed.receiver import Receiver
from testbed.redis import Redis

DATABASE = "soak"
PICTURES = 500
STORES = "AreaCode,StoreName,StoreID\n710006,BHARAT STORE,S00339218\n710006,Kaveri Kirana,S01408764\n"


class Scene:
    """Call everything from the main thread: the kernel ties the processes' lives to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mariadb, self.redis = MariaDB(), Redis()
        self.host = Host(pictures(folder, PICTURES))
        self.receiver = Receiver()
        self.workers: list[Worker] = []
        self.parts: dict[str, Process] = {}
        self.deaths: dict[int, str] = {}

    def start(self, stack: ExitStack) -> None:
        for server in (self.mariadb, self.redis, self.host, self.receiver):
            stack.enter_context(server)
        self.environment = {
            "DATABASE_URL": self.mariadb.create_database(DATABASE),
            "REDIS_URL": self.redis.url,
            "DATA_DIR": str(self.folder),
            "AUTH": "keys",
            "TRUSTED_PROXIES": "unix",
            "FILES_NGINX_LOCATION": "/stored/",
            "RATE_LIMIT": "off",
            "LEASE_SECONDS": "8",
            "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        (self.folder / "stores.csv").write_text(STORES)
        self._run("db_create.py", "--stores", str(self.folder / "stores.csv"))
        key = self._run("-m", "app.cli", "keys", "create", "--scope", "admin")
        self._start_parts(stack)
        (self.folder / "files").mkdir(exist_ok=True)
        self.front = stack.enter_context(Front(f"unix:{self.folder}/web.sock", files=self.folder / "files"))
        self.headers = {"Authorization": f"Bearer {key}"}
        self._subscribe()

    def _subscribe(self) -> None:
        wanted = {"url": self.receiver.url("/hook"), "events": ["job.completed", "job.failed"]}
        with self.session() as session:
            session.post(f"{self.front.url}/api/webhooks", json=wanted, timeout=30).raise_for_status()

    def _run(self, *argv: str) -> str:
        env = os.environ | self.environment
        done = subprocess.run(
            [sys.executable, *argv], cwd=PROJECT, env=env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{argv} failed:\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def _start_parts(self, stack: ExitStack) -> None:
        socket = self.folder / "web.sock"
        gunicorn = ["-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "--bind", f"unix:{socket}"]
        for name, argv in (
            ("web", gunicorn),
            ("recover", ["-m", "app.cli", "recover"]),
            ("deliver", ["-m", "app.cli", "deliver"]),
        ):
            log = self.folder / f"{name}.log"
            self.parts[name] = stack.enter_context(Process([sys.executable, *argv], env=self.environment, log=log))
        for number in range(2):
            log = self.folder / f"worker{number}.log"
            process = processes.worker(self.environment, log, name=f"worker{number}")
            stack.callback(process.kill)
            self.workers.append(Worker(process))
        wait_for(socket.exists, 60, what="the web server's socket")

    def session(self) -> requests.Session:
        """A client that trusts the certificate and has a key."""
        session = requests.Session()
        session.trust_env = False
        session.verify = str(self.front.certificate)
        session.headers.update(self.headers)
        return session

    def audit(self) -> str:
        """What ``imagejobs audit`` says; empty where it finds nothing."""
        try:
            self._run("-m", "app.cli", "audit")
        except RuntimeError as error:
            return str(error)
        return ""

    def tend(self) -> None:
        spared = self.workers[0].process
        if not spared.is_alive and not self.deaths.get(spared.pid):
            self.deaths[spared.pid] = (
                f"the worker that is spared ended with {spared.child.returncode}: {spared.text[-500:]}"
            )
        for worker in self.workers:
            worker.tend()


class Fault:
    """One kind of harm; ``undo`` is due ``seconds`` later."""

    def __init__(self, name: str, seconds: float = 0) -> None:
        self.name, self.seconds = name, seconds

    def strike(self, scene: Scene) -> None:
        victim = scene.workers[1]
        match self.name:
            case "worker killed":
                victim.process.kill()
            case "worker stopped in order":
                victim.is_ending = True
                victim.process.child.terminate()
            case "worker frozen":
                scene.workers[0].process.freeze()
            case "redis flushed":
                scene.redis.flush()
            case "redis killed":
                scene.redis.kill()
            case "mariadb killed":
                scene.mariadb.kill()
            case "web reloaded":
                scene.parts["web"].child.send_signal(signal.SIGHUP)
            case "nginx reloaded":
                os.kill(scene.front.pid, signal.SIGHUP)
            case "recover killed":
                scene.parts["recover"].kill()

    def undo(self, scene: Scene) -> None:
        match self.name:
            case "worker frozen":
                scene.workers[0].process.thaw()
            case "redis killed":
                scene.redis.start()
            case "mariadb killed":
                scene.mariadb.start()
            case "recover killed":
                scene.parts["recover"].start()


# Once and early: a web process that is new every nine minutes would hide what it loses.
FIRST = Fault("web reloaded")
# MariaDB first: the first errors cost each process some MB for good (sources for their tracebacks, and room for their
# frames until Python's collector gets to them), and what comes after is measured.
FAULTS = (
    Fault("mariadb killed", 5),
    Fault("worker killed"),
    Fault("redis flushed"),
    Fault("worker frozen", 5),
    Fault("worker stopped in order"),
    Fault("nginx reloaded"),
    Fault("redis killed", 5),
    Fault("recover killed", 5),
)


class Faults:
    """Deals them out in turn, one every ``every`` seconds; call ``do_due`` often."""

    def __init__(self, scene: Scene, every: float) -> None:
        self._scene, self._every = scene, every
        self._next_at = time.monotonic() + every
        self._undo: tuple[float, Fault] | None = None
        self.struck: list[tuple[float, str]] = []

    def do_due(self, *, is_over: bool = False) -> None:
        now = time.monotonic()
        if self._undo and now >= self._undo[0]:
            self._undo[1].undo(self._scene)
            self._undo = None
        if not is_over and now >= self._next_at and not self._undo:
            fault = FAULTS[(len(self.struck) - 1) % len(FAULTS)] if self.struck else FIRST
            fault.strike(self._scene)
            self.struck.append((now, fault.name))
            self._undo = (now + fault.seconds, fault) if fault.seconds else None
            self._next_at += self._every

    @property
    def is_quiet(self) -> bool:
        return self._undo is None
