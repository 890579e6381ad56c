"""Processes that a test starts, stops, kills and freezes; none outlives the test run.

Start them from the main thread: the kernel ties a child's life to the *thread* that started it.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from app.lifelines import die_with_parent

PROJECT = Path(__file__).resolve().parents[1]
STOP_SECONDS = 40.0  # a worker hands back what it holds within 25 s, a supervisor gives its children 35

T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float, *, what: str = "", every: float = 0.05) -> T:
    """Return the first true value of ``condition``; raises TimeoutError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what or condition}")
        time.sleep(every)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, below the range from which the kernel picks ports for clients.

    A server that is killed and comes back on the same port would else find it taken now and then.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("found no free port")


def is_listening(port: int) -> bool:
    """Whether something accepts connections on ``port`` of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_running(pid: int) -> bool:
    """Whether ``pid`` runs; a zombie, dead but not yet waited for by its parent, does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False  # it ended between the opening and the reading
    except FileNotFoundError:
        return not Path("/proc/self/stat").exists()


class Process:
    """A child with a log file and its own process group, which every signal goes to.

    ``env`` is added to this process's environment.
    """

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = PROJECT,
    ) -> None:
        self.argv = [os.fspath(part) for part in argv]
        self.log = log
        self._env = dict(env or {})
        self._cwd = cwd
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.argv,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        return self

    @property
    def child(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError(f"not started: {self.argv}")
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def is_alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole group, whether its leader still lives or not."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """The exit code; raises TimeoutError with the log's end."""
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.argv} still runs after {seconds:g} s:\n{self.text[-2000:]}") from None

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM to the leader, then SIGKILL to what is left of the group; returns the leader's exit code."""
        if self.is_alive:
            self.child.terminate()
        try:
            return self.wait(seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the group. A second call is harmless."""
        if self._child is not None:
            self.signal(signal.SIGKILL)
            self._child.wait()

    def is_catching(self, number: int) -> bool:
        """Whether it has a handler for the signal by now; while it starts, a signal may still end it (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (number - 1) & 1)

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and its leases, but does nothing."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self if self.is_alive else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def worker(
    env: Mapping[str, str],
    log: Path,
    *,
    name: str = "worker",
    module: str = "celery_worker",
    cwd: Path = PROJECT,
    prefix: Sequence[str] = (),
) -> Process:
    """A worker process, started; ``name`` must be its own among those on one broker. ``prefix`` is what execs it."""
    argv = [*prefix, sys.executable, "-m", "celery", "-A", module, "worker", "-n", f"{name}@%h"]
    return Process(argv, env=env, log=log, cwd=cwd).start()


def recover(env: Mapping[str, str], log: Path) -> Process:
    """The recover loop, started."""
    return Process([sys.executable, "-m", "app.cli", "recover"], env=env, log=log).start()


def deliver(env: Mapping[str, str], log: Path) -> Process:
    """The sender of webhooks, started."""
    return Process([sys.executable, "-m", "app.cli", "deliver"], env=env, log=log).start()


def web(env: Mapping[str, str], log: Path, *, port: int) -> Process:
    """The web process, started and listening on ``port`` of 127.0.0.1."""
    argv = [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py"]
    argv += ["--bind", f"127.0.0.1:{port}", "--workers", "1", "app:create_app()"]
    process = Process(argv, env=env, log=log).start()
    wait_for(lambda: is_listening(port) or not process.is_alive, 30, what=f"the web process on port {port}")
    if not process.is_alive:
        raise RuntimeError(f"the web process ended at once:\n{process.text[-2000:]}")
    return process
