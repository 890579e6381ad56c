"""A throwaway Redis server on a free port, which forgets everything when it ends."""

from __future__ import annotations

import redis

from testbed.server import Server, program


class Redis(Server):
    """One server; after ``kill`` or ``stop``, ``start`` brings it back empty on the same port."""

    kind = "Redis"

    def __init__(self) -> None:
        super().__init__()
        argv = [program("redis-server"), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        self._command([*argv, "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A new client; close it."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, decode_responses=True)

    def _is_answering(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def flush(self) -> None:
        """FLUSHALL: every message is gone."""
        with self.client() as client:
            client.flushall()
