"""A throwaway nginx on a free port that serves the files of one folder, as fast as this machine can."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from app.lifelines import Watchdog
from testbed.processes import Process, free_port, is_listening, wait_for

START_SECONDS = 10.0

# Debian keeps it in sbin, which is not on every user's PATH.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])

# Started by root it would serve as nobody, who may not read a temporary folder.
_AS_ROOT = "user root;" if os.getuid() == 0 else ""

CONFIG = """\
{as_root}
daemon off;
worker_processes {workers};
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    types {{ image/jpeg jpg; }}
    access_log off;
    sendfile on;
    tcp_nopush on;
    # Connections stay open from one job to the next, however many requests they have carried.
    keepalive_timeout 300;
    keepalive_requests 100000000;
    open_file_cache max=1000 inactive=600s;
    client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {root};
    }}
}}
"""


class Nginx:
    """One server with ``workers`` processes for the files under ``root``."""

    def __init__(self, root: Path, *, workers: int = 2) -> None:
        program = shutil.which("nginx", path=_PATH)
        if program is None:
            raise RuntimeError("nginx is not installed; testbed/install.sh installs it")
        self.folder = Path(tempfile.mkdtemp(prefix="imagejobs-nginx-"))
        self.port = free_port()
        config = self.folder / "nginx.conf"
        config.write_text(
            CONFIG.format(as_root=_AS_ROOT, folder=self.folder, port=self.port, root=root, workers=workers)
        )
        # The log is named here too: until the configuration is read, nginx would write to the system's.
        argv = [program, "-p", str(self.folder), "-e", "stderr", "-c", str(config)]
        self._process = Process(argv, log=self.folder / "server.log", cwd=self.folder)
        self._watchdog: Watchdog | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> Self:
        self._process.start()
        # The kernel ends the master together with us; its workers would serve on without it.
        self._watchdog = Watchdog()
        self._watchdog.watch(self.pid)
        wait_for(self._answers, START_SECONDS, what=f"nginx in {self.folder}")
        return self

    def _answers(self) -> bool:
        if not self._process.is_alive:
            raise RuntimeError(f"nginx ended at once:\n{self._process.text[-2000:]}")
        return is_listening(self.port)

    def close(self) -> None:
        """End the server and remove its folder. A second call is harmless."""
        if self._watchdog is not None:
            self._watchdog.forget(self.pid)
            self._watchdog.close()
            self._watchdog = None
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
