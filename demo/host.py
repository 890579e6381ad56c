"""A host of files for the demo, tests and benchmarks: HTTP/1.1 with keep-alive on 127.0.0.1, from memory, in a process
of its own.

``/NAME`` is a file of the folder (a query is ignored, so that one file has many addresses), ``/slow/SECONDS/NAME`` is
the same after a wait, ``/status/CODE`` is an answer with that code, ``/times`` tells as JSON when each path was asked
for; everything else is 404.
"""

from __future__ import annotations

import argparse
import asyncio
import http
import json
import mimetypes
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote
from urllib.request import urlopen

PROJECT = Path(__file__).resolve().parents[1]
BACKLOG = 1024
MOST_HEADER_BYTES = 64 * 1024

# Whatever the machine's own table of types says.
mimetypes.add_type("image/webp", ".webp")


class Host:
    """The host as a child process, which ends with this one; ``url`` has no slash at its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        # It ends when its input does, so that it goes with us on every system, even if we are killed. A session of
        # its own keeps a terminal's Ctrl-C from ending it before those who still fetch from it.
        argv = [sys.executable, "-m", "demo.host", "--while-input-is-open", str(self._folder.resolve())]
        self._process = subprocess.Popen(
            argv, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the host of sample photos did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        with self._process:
            pass

    def counts(self) -> dict[str, int]:
        """How often each path was asked for so far."""
        return {path: len(times) for path, times in self.times().items()}

    def times(self) -> dict[str, list[float]]:
        """When each path was asked for so far, in this machine's monotonic seconds."""
        with urlopen(f"{self.url}/times", timeout=10) as answer:
            times: dict[str, list[float]] = json.load(answer)
            return times


class _Files:
    """Whole answers by path, ready to be sent."""

    def __init__(self, folder: Path) -> None:
        self._answers = {f"/{file.name}": _file(file) for file in folder.iterdir() if file.is_file()}
        self.times: defaultdict[str, list[float]] = defaultdict(list)

    def answer(self, target: str) -> tuple[float, bytes]:
        """Seconds to wait, and what to send then."""
        path = target.partition("?")[0]
        self.times[path].append(time.monotonic())
        found = self._answers.get(path)
        return (0.0, found) if found else self._special(unquote(path))

    def _special(self, path: str) -> tuple[float, bytes]:
        match path.split("/"):
            case ["", "times"]:
                return 0.0, _answer(200, json.dumps(self.times).encode(), "application/json")
            case ["", "status", code, *_] if code.isdigit() and 200 <= int(code) <= 599:
                return 0.0, _answer(int(code))
            case ["", "slow", seconds, *rest] if seconds.replace(".", "", 1).isdigit():
                return float(seconds), self._answers.get("/" + "/".join(rest)) or _answer(404)
        return 0.0, self._answers.get(path) or _answer(404)


def _file(file: Path) -> bytes:
    return _answer(200, file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream")


def _answer(code: int, body: bytes | None = None, kind: str = "text/plain") -> bytes:
    try:
        reason = http.HTTPStatus(code).phrase
    except ValueError:
        reason = "Unknown"
    if code in (204, 304):  # these have no body
        return f"HTTP/1.1 {code} {reason}\r\n\r\n".encode()
    body = f"{code} {reason}\n".encode() if body is None else body
    return f"HTTP/1.1 {code} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class _Connection(asyncio.Protocol):
    """One client; answers one request after the other."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self._received = b""
        self._is_waiting = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > MOST_HEADER_BYTES and self._transport:
            self._transport.abort()
            return
        self._answer_next()

    def _answer_next(self) -> None:
        while not self._is_waiting and self._transport and b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            method, _, rest = head.partition(b" ")
            seconds, answer = self._files.answer(rest.partition(b" ")[0].decode("latin-1"))
            if method == b"HEAD":
                answer = answer[: answer.index(b"\r\n\r\n") + 4]
            elif method != b"GET":
                answer = _answer(405)  # and its body is not read, so nothing can follow
            is_last = b"connection: close" in head.lower() or method not in (b"GET", b"HEAD")
            self._is_waiting = seconds > 0
            if seconds:
                asyncio.get_running_loop().call_later(seconds, self._send_late, answer, is_last)
            else:
                self._send(answer, is_last)

    def _send(self, answer: bytes, is_last: bool) -> None:
        if self._transport:
            self._transport.write(answer)
            if is_last:
                self._transport.close()

    def _send_late(self, answer: bytes, is_last: bool) -> None:
        self._is_waiting = False
        self._send(answer, is_last)
        self._answer_next()


async def serve(folder: Path, port: int, *, is_bound_to_input: bool) -> None:
    """Serve ``folder`` until cancelled, or until standard input ends; prints the address first."""
    loop, files, end = asyncio.get_running_loop(), _Files(folder), asyncio.Event()
    server = await loop.create_server(lambda: _Connection(files), "127.0.0.1", port, backlog=BACKLOG)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    if is_bound_to_input:
        loop.add_reader(sys.stdin.fileno(), end.set)  # nobody writes to it: it is readable when it ends
    await end.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.host", description="Serve the files of a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one (the default)")
    parser.add_argument("--while-input-is-open", action="store_true", help="end when standard input does")
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.folder, options.port, is_bound_to_input=options.while_input_is_open))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
