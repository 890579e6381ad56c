"""A throwaway Redis server on a free port, which forgets everything when it ends."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from testbed.processes import Process, free_port, wait_for

START_SECONDS = 20.0


class Redis:
    """One server; after ``kill`` or ``stop``, ``start`` brings it back empty on the same port."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("redis-server is not installed; testbed/install.sh installs it")
        self.folder = Path(tempfile.mkdtemp(prefix="imagejobs-redis-"))
        self.port = free_port()
        argv = [program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        argv += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        self._process = Process(argv, log=self.folder / "server.log", cwd=self.folder)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._process.pid

    def client(self) -> redis.Redis:
        """A new client; close it."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, decode_responses=True)

    def start(self) -> Self:
        self._process.start()
        wait_for(self._answers, START_SECONDS, what=f"Redis in {self.folder}")
        return self

    def _answers(self) -> bool:
        if not self._process.is_alive:
            raise RuntimeError(f"Redis ended at once:\n{self._process.text[-2000:]}")
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def flush(self) -> None:
        """FLUSHALL: every message is gone."""
        with self.client() as client:
            client.flushall()

    def stop(self) -> None:
        """An orderly shutdown."""
        self._process.stop()

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It accepts connections and never answers: worse for a client than being away."""
        self._process.freeze()

    def thaw(self) -> None:
        self._process.thaw()

    def close(self) -> None:
        """End the server and remove its folder. A second call is harmless."""
        self._process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
