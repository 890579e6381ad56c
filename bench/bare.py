"""(c) The bare limit: download, header, pause, and nothing else: no queue, no database, no error handling.

Run by ``bench.ways.bare`` as a process of its own. It warms its connections up, prints ``ready``, waits for a signal,
works off its URLs, prints a JSON object, and then waits to be killed.
"""

from __future__ import annotations

import argparse
import heapq
import io
import json
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pycurl
from PIL import Image

LONGEST_WAIT_SECONDS = 0.25
# Fewer system calls a body than with libcurl's own 16 KB; the downloader does the same.
READ_BYTES = 256 * 1024
GO = signal.SIGUSR1


class Loop:
    """At most ``slots`` images are downloading or pausing, at most ``downloads`` of them downloading."""

    def __init__(self, slots: int, downloads: int, authorities: Path | None = None) -> None:
        self._slots = slots
        self._pause = (0.0, 0.0)
        self._multi = pycurl.CurlMulti()
        self._free = [_new_handle(authorities) for _ in range(downloads)]
        self._downloads = downloads
        self._pausing: list[float] = []  # heap of the moments at which pauses end
        self._perimeter = 0

    def run(self, urls: Sequence[str], pause: tuple[float, float]) -> int:
        """Work off ``urls``, pausing between the least and the most seconds; returns the sum of the perimeters."""
        self._pause = pause
        self._perimeter = 0
        left = list(reversed(urls))
        while left or self._pausing or len(self._free) < self._downloads:
            while left and self._free and self._in_flight < self._slots:
                self._start(left.pop())
            self._multi.select(self._wait_seconds())
            self._multi.perform()
            _, good, bad = self._multi.info_read()
            for curl in good:
                self._finish(curl)
            if bad:
                raise RuntimeError(f"a download failed: {bad[0][1:]}")
            self._end_pauses()
        return self._perimeter

    @property
    def _in_flight(self) -> int:
        return self._downloads - len(self._free) + len(self._pausing)

    def _wait_seconds(self) -> float:
        if not self._pausing:
            return LONGEST_WAIT_SECONDS
        return min(max(self._pausing[0] - time.monotonic(), 0.0), LONGEST_WAIT_SECONDS)

    def _start(self, url: str) -> None:
        curl = self._free.pop()
        curl.setopt(pycurl.URL, url)
        self._multi.add_handle(curl)

    def _finish(self, curl: pycurl.Curl) -> None:
        self._multi.remove_handle(curl)
        body = b"".join(curl.chunks)
        curl.chunks.clear()
        self._free.append(curl)
        width, height = Image.open(io.BytesIO(body)).size
        self._perimeter += 2 * (height + width)
        heapq.heappush(self._pausing, time.monotonic() + random.uniform(*self._pause))

    def _end_pauses(self) -> None:
        now = time.monotonic()
        while self._pausing and self._pausing[0] <= now:
            heapq.heappop(self._pausing)


def _new_handle(authorities: Path | None) -> pycurl.Curl:
    curl = pycurl.Curl()
    curl.chunks = []
    if authorities:
        curl.setopt(pycurl.CAINFO, str(authorities))
    for option, value in (
        (pycurl.WRITEFUNCTION, curl.chunks.append),
        (pycurl.BUFFERSIZE, READ_BYTES),
        (pycurl.NOSIGNAL, 1),
        (pycurl.NOPROXY, "*"),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.FAILONERROR, 1),
    ):
        curl.setopt(option, value)
    return curl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", type=Path, help="file with one URL a line")
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--downloads", type=int, required=True)
    parser.add_argument("--pause", type=float, nargs=2, required=True, metavar=("LEAST", "MOST"))
    parser.add_argument("--ca", type=Path, help="PEM file of authorities to trust")
    given = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {GO})
    urls = given.urls.read_text().split()
    loop = Loop(given.slots, given.downloads, given.ca)
    loop.run(urls[: 4 * given.downloads], (0.0, 0.0))
    print("ready", flush=True)
    signal.sigwait({GO})
    started = time.monotonic()
    perimeter = loop.run(urls, tuple(given.pause))
    print(json.dumps({"seconds": time.monotonic() - started, "perimeter": perimeter}), flush=True)
    signal.pause()  # the one who measures still reads what this process has cost


if __name__ == "__main__":
    main()
