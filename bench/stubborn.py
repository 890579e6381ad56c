"""Neighbours that one would rather not have: a host that takes connections and never answers, a name server that knows
no name.

Both run as processes of their own: ``python -m bench.stubborn host ADDRESS PORT`` and ``... names ADDRESS``.
"""

from __future__ import annotations

import selectors
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.processes import Process, free_port, wait_for

HOST, NAMES = "127.0.0.3", "127.0.0.53"
DNS_PORT = 53
BACKLOG = 4096
# RFC 1035, 4.1.1: an answer, recursion desired and available, and the code for a name that does not exist.
NXDOMAIN = 0x8183


@contextmanager
def host(folder: Path) -> Iterator[str]:
    """The URL of a host that hangs."""
    port = free_port()
    with _run(folder / "hanging.log", "host", HOST, str(port)):
        yield f"http://{HOST}:{port}"


@contextmanager
def names(folder: Path) -> Iterator[Path]:
    """A file in the form of /etc/resolv.conf that names a server which knows no name. Needs root, for its port."""
    file = folder / "resolv.conf"
    file.write_text(f"nameserver {NAMES}\noptions timeout:1 attempts:3\n")
    with _run(folder / "names.log", "names", NAMES):
        yield file


@contextmanager
def _run(log: Path, *arguments: str) -> Iterator[None]:
    with Process([sys.executable, "-m", "bench.stubborn", *arguments], log=log) as process:
        wait_for(lambda: "ready" in process.text or not process.is_alive, 30, what=" ".join(arguments))
        if not process.is_alive:
            raise RuntimeError(f"it ended at once:\n{process.text[-1000:]}")
        yield


def _hang(address: str, port: int) -> None:
    listener = socket.create_server((address, port), backlog=BACKLOG)
    watched = selectors.DefaultSelector()
    watched.register(listener, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in watched.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                connection.setblocking(False)
                watched.register(connection, selectors.EVENT_READ)
            elif not _is_open(key.fileobj):
                watched.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]


def _is_open(connection: object) -> bool:
    try:
        return bool(connection.recv(65_536))  # type: ignore[attr-defined]
    except OSError:
        return False


def _deny(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, DNS_PORT))
        print("ready", flush=True)
        while True:
            query, client = server.recvfrom(4096)
            server.sendto(query[:2] + NXDOMAIN.to_bytes(2, "big") + query[4:6] + bytes(6) + _question(query), client)


def _question(query: bytes) -> bytes:
    """The question section alone: what follows it (EDNS) is not answered."""
    end = query.index(0, 12) + 5
    return query[12:end]


if __name__ == "__main__":
    if sys.argv[1] == "host":
        _hang(sys.argv[2], int(sys.argv[3]))
    else:
        _deny(sys.argv[2])
