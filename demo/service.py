"""The service as a child process: ``imagejobs run`` on a free port, with everything it keeps in a given folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from config import Settings

PROJECT = Path(__file__).resolve().parents[1]
START_SECONDS = 90.0
STOP_SECONDS = 45.0  # it gives its own children 35


class ServiceError(Exception):
    """The service did not start, or answered what it should not; the message says what."""


class Service:
    """``url`` has no slash at its end. The settings of the caller's environment do not count, ``settings`` do."""

    def __init__(self, folder: Path, *, stores: Path, settings: dict[str, str]) -> None:
        self._data_dir = folder / "data"
        self._log = folder / "service.log"
        self._stores = stores
        self._settings = {"DATA_DIR": str(self._data_dir), "PORT": "0", "LOG_LEVEL": "INFO"} | settings
        self._process: subprocess.Popen[bytes] | None = None
        # A proxy set for the outside must not see what stays on this machine.
        self._session = requests.Session()
        self._session.trust_env = False
        self.url = ""

    def __enter__(self) -> Self:
        try:
            self._start()
            self.url = self._wait_for(self._address)
            self._wait_for(self._is_healthy)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()
        self._stop()

    def _start(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in Settings.model_fields}
        argv = [sys.executable, "-m", "app.cli", "run", "--with-parent", "--stores", str(self._stores)]
        with self._log.open("wb") as log:
            # In a session of its own: Ctrl-C reaches the demo, which stops the service in its turn.
            self._process = subprocess.Popen(
                argv,
                cwd=PROJECT,
                env=inherited | self._settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        finally:
            # After a second Ctrl-C, too: the service's watchdog then ends what it had started.
            self._process.kill()
            self._process.wait()

    def _wait_for(self, find: Any) -> Any:
        deadline = time.monotonic() + START_SECONDS
        while not (found := find()):
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise ServiceError(f"the service did not start; its last words:\n{self.log_end()}")
            time.sleep(0.05)
        return found

    def _address(self) -> str:
        file = self._data_dir / "address"
        return file.read_text().strip() if file.exists() else ""

    def _is_healthy(self) -> bool:
        try:
            answer = self._session.get(f"{self.url}/health", timeout=5)
        except requests.RequestException:
            return False
        return answer.ok and answer.json().get("status") == "ok"

    def log_end(self) -> str:
        """The last lines that the service printed."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-40:])

    def post(self, path: str, body: Any) -> Any:
        return self.call("POST", path, json=body).json()

    def get(self, path: str, **query: str | int) -> Any:
        return self.call("GET", path, params=query).json()

    def call(self, method: str, path: str, **request: Any) -> requests.Response:
        """Raises ServiceError unless all is well."""
        answer = self._session.request(method, self.url + path, timeout=60, **request)
        if not answer.ok:
            what = f"{method} {answer.url} answered {answer.status_code}: {answer.text.strip()[:500]}"
            raise ServiceError(f"{what}\nThe service's last words:\n{self.log_end()}")
        return answer
