"""Throwaway nginx on free ports: one that serves the files of a folder as fast as this machine can, and the one in
front of the service, with the site that is shipped."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from app.lifelines import Watchdog
from app.models import JobSource
from testbed import certificates
from testbed.authorities import Authority
from testbed.processes import PROJECT, free_port, is_listening
from testbed.server import Server, program

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
    client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
    {site}
}}
"""
FILES = """\
    sendfile on;
    tcp_nopush on;
    # Connections stay open from one job to the next, however many requests they have carried.
    keepalive_timeout 300;
    keepalive_requests 100000000;
    open_file_cache max=1000 inactive=600s;
    log_format slots '$msec $request_time $arg_slot';
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        {secure}
        access_log {folder}/slots.log slots buffer=256k flush=500ms if=$arg_slot;
        root {root};
    }}
"""
SECURE = """\
        listen 127.0.0.1:{port} ssl backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        ssl_protocols TLSv1.3;
"""
SITE = PROJECT / "deploy/nginx/imagejobs.conf.template"


class _Nginx(Server):
    """One nginx; ``site`` stands in its http block."""

    kind = "nginx"

    def __init__(self, *, workers: int) -> None:
        super().__init__()
        self._config = self.folder / "nginx.conf"
        self._workers = workers
        # The log is named here too: until the configuration is read, nginx would write to the system's.
        self._command([program("nginx"), "-p", str(self.folder), "-e", "stderr", "-c", str(self._config)])
        self._watchdog: Watchdog | None = None

    def _write(self, site: str) -> None:
        options = {"as_root": _AS_ROOT, "folder": self.folder, "workers": self._workers}
        self._config.write_text(CONFIG.format(**options, site=site))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _has_started(self) -> None:
        # The kernel ends the master together with us; its workers would serve on without it.
        self._watchdog = Watchdog()
        self._watchdog.watch(self.pid)

    def _is_answering(self) -> bool:
        return is_listening(self.port)

    def close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.forget(self.pid)
            self._watchdog.close()
            self._watchdog = None
        super().close()


class Nginx(_Nginx):
    """Serves the files under ``root`` with ``workers`` processes, by TLS 1.3 too where there is an ``authority``.

    Requests that name a slot (``?slot=3``) are noted.
    """

    def __init__(self, root: Path, *, workers: int = 2, authority: Authority | None = None) -> None:
        super().__init__(workers=workers)
        self.secure_port = free_port()
        self._log = self.folder / "slots.log"
        secure = ""
        if authority:
            secure = SECURE.format(port=self.secure_port, certificate=authority.certificate("127.0.0.1"))
        self._write(FILES.format(port=self.port, root=root, folder=self.folder, secure=secure))

    @property
    def secure_url(self) -> str:
        return f"https://127.0.0.1:{self.secure_port}"

    def slots(self) -> dict[int, float]:
        """When each slot was asked for, in seconds of the Unix clock; the last half second may be missing."""
        found = {}
        for line in self._log.read_text().splitlines():
            ended_at, seconds, slot = line.split()
            found[int(slot)] = float(ended_at) - float(seconds)
        return found

    def forget_slots(self) -> None:
        with self._log.open("w"):
            pass


class Front(_Nginx):
    """The shipped site in front of ``server`` (``127.0.0.1:5000``, ``unix:/path``), by TLS on ``port``.

    ``certificate`` is what a client has to trust, by the name localhost; ``doors`` have servers of their own.
    """

    def __init__(
        self,
        server: str,
        *,
        files: Path,
        body_max: str = "65m",
        upload_max: str = "1g",
        doors: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(workers=1)
        self.plain_port = free_port()
        self.certificate = self.folder / "certificate.pem"
        certificates.write_self_signed(self.certificate, self.folder / "key.pem")
        values = {
            "IMAGEJOBS_HTTP": f"127.0.0.1:{self.plain_port}",
            "IMAGEJOBS_HTTPS": f"127.0.0.1:{self.port}",
            "IMAGEJOBS_SERVER": server,
            **{f"IMAGEJOBS_SERVER_{door.upper()}": (doors or {}).get(door, server) for door in JobSource},
            "IMAGEJOBS_CERTIFICATE": str(self.certificate),
            "IMAGEJOBS_CERTIFICATE_KEY": str(self.folder / "key.pem"),
            "IMAGEJOBS_FILES": str(files),
            "IMAGEJOBS_CACHE": str(self.folder / "cache"),
            "IMAGEJOBS_BODY_MAX": body_max,
            "IMAGEJOBS_UPLOAD_MAX": upload_max,
        }
        # Exactly the names that envsubst would know, and no other $.
        self._write(re.sub(r"\$\{(IMAGEJOBS_\w+)\}", lambda match: values[match[1]], SITE.read_text()))

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def plain_url(self) -> str:
        return f"http://127.0.0.1:{self.plain_port}"
