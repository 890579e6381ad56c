"""Bodies of which the beginning is enough, and connections that are kept for the next one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from app.errors import FetchError
from app.fetching import Downloads, Fetched, FetchLimits, HeldBack
from testbed.scripted import BODY, ScriptedServer

PUBLIC = "127.0.0.2"
MOST_SECONDS = 60.0

Result = Fetched | FetchError | HeldBack


def new_downloads(**limits: Any) -> Downloads:
    return Downloads(FetchLimits(allowed_networks=(f"{PUBLIC}/32",), **limits))


def fetch(downloads: Downloads, url: str, look: Callable[[bytes], Any] | None = None) -> Result:
    downloads.add("it", url, look)
    deadline = time.monotonic() + MOST_SECONDS
    while not (results := downloads.poll(0.2)):
        assert time.monotonic() < deadline
    [(_, result)] = results
    return result


def test_body_of_which_the_beginning_tells_enough_is_read_but_not_kept() -> None:
    downloads = new_downloads()
    held: list[int] = []

    def look(start: bytes) -> int:
        held.append(downloads._budget.used)
        return len(start)

    with ScriptedServer(PUBLIC) as server:
        result = fetch(downloads, server.url("/size?bytes=1000000"), look)
        assert isinstance(result, Fetched)
        assert (result.body, result.size, result.status) == (b"", 1_000_000, 200)
        assert 0 < result.seen <= 16 * 1024
        assert held == [0] and downloads._budget.used == 0
        # The handle is used again, by one who looks at nothing.
        result = fetch(downloads, server.url("/good"))
        assert isinstance(result, Fetched) and (result.body, result.size, result.seen) == (BODY, len(BODY), None)
    downloads.close()


def test_body_of_which_the_beginning_tells_nothing_comes_whole() -> None:
    downloads = new_downloads()
    with ScriptedServer(PUBLIC) as server:
        result = fetch(downloads, server.url("/size?bytes=300000"), lambda _start: None)
    assert isinstance(result, Fetched)
    assert (len(result.body), result.size, result.seen) == (300_000, 300_000, None)
    downloads.close()


def test_what_is_wrong_with_a_body_is_found_though_its_beginning_told_enough() -> None:
    downloads = new_downloads(max_bytes=100_000)
    looked: list[bytes] = []

    def look(start: bytes) -> str:
        looked.append(start)
        return "enough"

    with ScriptedServer(PUBLIC) as server:
        for path, code in (("/cut", "truncated"), ("/endless", "too_large"), ("/empty", "empty_body")):
            result = fetch(downloads, server.url(path), look)
            assert isinstance(result, FetchError) and result.code == code
        looked.clear()
        result = fetch(downloads, server.url("/status?code=404&body=5000"), look)
        assert isinstance(result, FetchError) and result.code == "http_404"
    assert not looked, "an error page is no image"
    downloads.close()


def test_kept_connections_that_the_host_closes_cost_nothing_and_leave_no_trace() -> None:
    downloads = new_downloads()
    for _ in range(3):  # new sockets have the numbers of those that were closed
        with ScriptedServer(PUBLIC) as server:
            for _ in range(3):
                assert isinstance(fetch(downloads, server.url("/good")), Fetched)
        calls = 0
        drive = downloads._wires.drive

        def counted(timeout: float, drive: Any = drive) -> Any:
            nonlocal calls
            calls += 1
            return drive(timeout)

        downloads._wires.drive = counted  # type: ignore[method-assign]
        assert downloads.poll(0.6) == []
        downloads._wires.drive = drive  # type: ignore[method-assign]
        assert calls < 20, "it waits, it does not spin"
    downloads.close()
