"""What every way of working leans on: a database, a broker and a host of images, all throwaway and on loopback."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config import Settings
from testbed.authorities import Authority
from testbed.mariadb import MariaDB
from testbed.nginx import Nginx
from testbed.redis import Redis

DATABASE = "bench"


class BenchError(Exception):
    """A measurement is not to be trusted: something did not start, did not end, or its books do not balance."""


@dataclass(frozen=True)
class Servers:
    """``folder`` is temporary; what ``root`` holds, ``host`` serves; ``authorities`` vouch for its certificate."""

    mariadb: MariaDB
    redis: Redis
    host: Nginx
    folder: Path
    authorities: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def environment(self, **changes: str) -> dict[str, str]:
        """The service's settings: those that ship, whatever the caller's environment says, but for these addresses."""
        return dict.fromkeys(Settings.model_fields, "") | {
            "DATABASE_URL": self.mariadb.url(DATABASE),
            "REDIS_URL": self.redis.url,
            "DATA_DIR": str(self.folder / "data"),
            "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
            "FETCH_CA_BUNDLE": str(self.authorities),
            **changes,
        }


@contextmanager
def running() -> Iterator[Servers]:
    """Servers for as long as the block runs; nothing of them is left behind it."""
    with tempfile.TemporaryDirectory(prefix="imagejobs-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "root").mkdir()
        authority = Authority(folder)
        with MariaDB() as mariadb, Redis() as redis, Nginx(folder / "root", authority=authority) as host:
            mariadb.create_database(DATABASE)
            yield Servers(mariadb, redis, host, folder, authority.bundle)
