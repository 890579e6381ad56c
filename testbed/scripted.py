"""A small image host that misbehaves on demand: the path of a request names the fault it gets.

It speaks raw sockets, since no HTTP library would send what these paths send. One thread a connection, bound to the
address that the test names (127.0.0.2 plays the public host), and everything it saw is kept in ``requests``.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs

BODY = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 16
DRIP_SECONDS = 0.1
LISTEN_BACKLOG = 1024


class ScriptedServer:
    """Use as a context manager. Paths (``?a=b`` gives arguments): see the ``_serve_*`` methods."""

    def __init__(self, address: str = "127.0.0.2", port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._listener = socket.create_server(
            (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=LISTEN_BACKLOG
        )
        self.address, self.port = self._listener.getsockname()[:2]
        self.requests: list[bytes] = []  # whole request heads, in the order of arrival
        self.connections = 0
        self.open_now = 0
        self.most_open = 0
        self.sent_bytes = 0
        self.released = threading.Event()  # what hangs goes on once it is set
        self._is_closing = False
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()

    def url(self, path: str = "/good", *, host: str | None = None) -> str:
        shown = host or (f"[{self.address}]" if ":" in self.address else self.address)
        return f"{'https' if self._tls else 'http'}://{shown}:{self.port}{path}"

    @property
    def targets(self) -> list[bytes]:
        """The request targets as they came."""
        return [head.split(b" ", 2)[1] for head in self.requests]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closing = True
        self.released.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self) -> None:
        while not self._is_closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self.open_now += 1
                self.most_open = max(self.most_open, self.open_now)
                self._sockets.add(connection)
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        spoken = connection
        try:
            if self._tls:
                spoken = self._tls.wrap_socket(connection, server_side=True)
            while not self._is_closing and (head := _read_head(spoken)):
                with self._lock:
                    self.requests.append(head)
                head, _, rest = head.partition(b"\r\n\r\n")
                if not self._answer(spoken, self._take(spoken, head, rest)):
                    break
        except OSError:
            pass  # the client has gone
        finally:
            spoken.close()
            with self._lock:
                self.open_now -= 1
                self._sockets.discard(connection)

    def _take(self, connection: socket.socket, head: bytes, rest: bytes) -> str:
        """The target to answer for a request; one that may have a body reads what is missing of it."""
        return head.split(b" ", 2)[1].decode("latin-1")

    def _answer(self, connection: socket.socket, target: str) -> bool:
        """Serve one request; False where the connection ends with it."""
        path, _, query = target.partition("?")
        kind = path.strip("/").split("/")[0]
        arguments = {name: values[-1] for name, values in parse_qs(query, True, encoding="latin-1").items()}
        serve: Callable[[socket.socket, dict[str, str]], bool] = getattr(self, f"_serve_{kind}", self._serve_good)
        return serve(connection, arguments)

    def _send(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        with self._lock:
            self.sent_bytes += len(data)

    def _reply(self, connection: socket.socket, status: str, body: bytes, *headers: str) -> bool:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        self._send(connection, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return True

    def _serve_good(self, connection: socket.socket, arguments: dict[str, str]) -> bool:
        time.sleep(float(arguments.get("wait", "0")))
        return self._reply(connection, "200 OK", BODY, "Content-Type: image/png")

    def _serve_size(self, connection: socket.socket, arguments: dict[str, str]) -> bool:
        return self._reply(connection, "200 OK", b"x" * int(arguments["bytes"]))

    def _serve_chunked(self, connection: socket.socket, arguments: dict[str, str]) -> bool:
        self._send(connection, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(BODY), 1000):
            piece = BODY[start : start + 1000]
            self._send(connection, b"%x\r\n%s\r\n" % (len(piece), piece))
            if "cut" in arguments:
                return False
            if "garbled" in arguments:
                self._send(connection, b"zz not a length\r\n")
                return False
        self._send(connection, b"0\r\n\r\n")
        return True

    def _serve_hints(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
        self._send(connection, b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        return self._serve_good(connection, {})

    def _serve_status(self, connection: socket.socket, arguments: dict[str, str]) -> bool:
        """``code``, and headers ``retry`` and the size of its ``body``."""
        headers = [f"Retry-After: {arguments['retry']}"] if "retry" in arguments else []
        return self._reply(
            connection, f"{arguments['code']} Scripted", b"e" * int(arguments.get("body", "5")), *headers
        )

    def _serve_redirect(self, connection: socket.socket, arguments: dict[str, str]) -> bool:
        """``to`` as Location (absent: none at all), ``code`` 302 unless named."""
        headers = [f"Location: {arguments['to']}"] if "to" in arguments else []
        body = b"r" * int(arguments.get("body", "0"))
        return self._reply(connection, f"{arguments.get('code', '302')} Elsewhere", body, *headers)

    def _serve_steps(self, connection: socket.socket, arguments: dict[str, str]) -> bool:
        """Redirect ``left`` times, then be good; ``wait`` seconds before each."""
        time.sleep(float(arguments.get("wait", "0")))
        left = int(arguments["left"])
        if not left:
            return self._serve_good(connection, {})
        onward = f"/steps?left={left - 1}&wait={arguments.get('wait', '0')}"
        return self._reply(connection, "302 Found", b"", f"Location: {onward}")

    def _serve_loop(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
        return self._reply(connection, "301 Moved", b"", "Location: /loop")

    def _serve_hang(self, _connection: socket.socket, _arguments: dict[str, str]) -> bool:
        self.released.wait(600)
        return False

    def _serve_release(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
        """Hang until ``released`` is set, then be good."""
        self.released.wait(600)
        return self._serve_good(connection, {})

    def _serve_drip(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
        self._send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not self._is_closing:
            self._send(connection, b"d")
            time.sleep(DRIP_SECONDS)
        return False

    def _serve_cut(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
        self._send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + BODY)
        return False

    def _serve_claim(self, connection: socket.socket, arguments: dict[str, str]) -> bool:
        """Announce ``bytes``, send none of them."""
        self._send(connection, f"HTTP/1.1 200 OK\r\nContent-Length: {arguments['bytes']}\r\n\r\n".encode())
        self.released.wait(600)
        return False

    def _serve_endless(self, connection: socket.socket, arguments: dict[str, str]) -> bool:
        """A body without an end or a length; ``code`` 200 unless named."""
        self._send(connection, f"HTTP/1.1 {arguments.get('code', '200')} OK\r\n\r\n".encode())
        while not self._is_closing:
            self._send(connection, b"e" * 65536)
        return False

    def _serve_bomb(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
        """Ten megabytes of nothing in ten kilobytes of gzip, which nobody asked for."""
        return self._reply(connection, "200 OK", gzip.compress(b"\0" * 10_000_000), "Content-Encoding: gzip")

    def _serve_empty(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
        return self._reply(connection, "200 OK", b"")

    def _serve_silent(self, _connection: socket.socket, _arguments: dict[str, str]) -> bool:
        """Close without a word."""
        return False

    def _serve_reset(self, connection: socket.socket, arguments: dict[str, str]) -> bool:
        """Reset the connection, ``after`` half the body where that is named."""
        if "after" in arguments:
            self._send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + BODY)
            time.sleep(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def _serve_garbage(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
        self._send(connection, b"SSH-2.0-OpenSSH_9.2\r\nand some more that is not HTTP\r\n")
        return False

    def _serve_badstatus(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
        self._send(connection, b"HTTP/1.1 abc Whatever\r\nContent-Length: 1\r\n\r\nx")
        return False

    def _serve_headers(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
        """More header than any client takes."""
        self._send(connection, b"HTTP/1.1 200 OK\r\n")
        while not self._is_closing:
            self._send(connection, b"X-More: " + b"h" * 8000 + b"\r\n")
        return False


class Sentinel:
    """A listener that must see nothing: ``connections`` counts whoever came."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family)
        self.port = self._listener.getsockname()[1]

    @property
    def connections(self) -> int:
        """Takes in what has arrived so far: the kernel completes a connection before it is accepted."""
        self._listener.setblocking(False)
        count = 0
        while True:
            try:
                self._listener.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()


def _read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        if not piece:
            return b""
        head += piece
    return head
