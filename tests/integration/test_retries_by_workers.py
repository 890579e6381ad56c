"""Failures that may pass, in real worker processes: how often, how late, and what a waiting job costs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import times
from demo.host import Host
from testbed.processes import Process, wait_for
from testbed.scripted import ScriptedServer
from tests.integration.hands import add_stores, expect_books_balanced, submit, visit
from tests.integration.test_workers import good, images_of, status, wait_until_settled, wait_until_some_done


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def arrivals(server: ScriptedServer, count: int) -> list[float]:
    """When each of so many requests was seen."""
    seen: list[float] = []
    deadline = time.monotonic() + 60
    while len(seen) < count:
        assert time.monotonic() < deadline, f"{len(seen)} of {count} requests came"
        seen.extend([time.monotonic()] * (len(server.requests) - len(seen)))
        time.sleep(0.01)
    return seen


def cpu_seconds(process: Process) -> float:
    """Of the process itself, from its start."""
    user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def wait_until_tried(client: FlaskClient, job_id: int, attempts: int = 1) -> dict[str, Any]:
    wait_for(lambda: images_of(client, job_id)[0]["attempts"] == attempts, 60, what=f"attempt {attempts}")
    return images_of(client, job_id)[0]


def test_retry_after_of_a_429_is_honoured_and_shown(
    app: Flask, client: FlaskClient, scripted: ScriptedServer, start_worker: Callable[..., Process], recover: Process
) -> None:
    add_stores(app)
    start_worker(RETRY_ATTEMPTS="2", RETRY_BASE_SECONDS="0.1")
    job_id = submit(client, visit(images=[scripted.url("/status?code=429&retry=3")]))
    first, second = arrivals(scripted, 2)
    assert 3 <= second - first < 3 + 10
    wait_until_settled(client, job_id)
    row = images_of(client, job_id)[0]
    assert (row["state"], row["error_code"], row["attempts"], row["next_attempt_at"]) == ("failed", "http_429", 2, None)
    expect_books_balanced(app)


def test_retry_after_is_bounded_by_the_longest_wait(
    app: Flask, client: FlaskClient, scripted: ScriptedServer, start_worker: Callable[..., Process], recover: Process
) -> None:
    add_stores(app)
    start_worker(RETRY_ATTEMPTS="2", RETRY_MAX_SECONDS="1")
    job_id = submit(client, visit(images=[scripted.url("/status?code=503&retry=3600")]))
    first, second = arrivals(scripted, 2)
    assert 1 <= second - first < 1 + 10
    assert wait_until_settled(client, job_id)["images"]["failed"] == 1


def test_waits_grow_and_are_settable(
    app: Flask, client: FlaskClient, scripted: ScriptedServer, start_worker: Callable[..., Process], recover: Process
) -> None:
    add_stores(app)
    start_worker(RETRY_ATTEMPTS="4", RETRY_BASE_SECONDS="0.5", RETRY_MAX_SECONDS="6", RECOVER_SECONDS="0.1")
    job_id = submit(client, visit(images=[scripted.url("/status?code=500")]))
    waits = [later - earlier for earlier, later in pairwise(arrivals(scripted, 4))]
    assert waits[0] >= 0.5 * 0.75 and waits[1] >= 2 * 0.75 and waits[2] >= 6 * 0.75
    assert wait_until_settled(client, job_id)["images"]["failed"] == 1
    assert len(scripted.requests) == 4


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_may_pass_is_tried_again_and_what_is_for_good_is_not(
    app: Flask, client: FlaskClient, scripted: ScriptedServer, start_worker: Callable[..., Process], recover: Process
) -> None:
    add_stores(app)
    start_worker(RETRY_BASE_SECONDS="0", RETRY_ATTEMPTS="2")
    passing = ["/status?code=408", "/status?code=502", "/reset", "/silent", "/cut"]
    final = ["/status?code=404", "/status?code=410", "/empty", "/good"]  # the last begins like a PNG, and is none
    job_id = submit(client, visit(images=[scripted.url(path) for path in [*passing, *final]]))
    wait_until_settled(client, job_id)
    rows = images_of(client, job_id)
    assert [row["attempts"] for row in rows] == [2] * len(passing) + [1] * len(final)
    assert [row["error_code"] for row in rows[5:]] == ["http_404", "http_410", "empty_body", "broken_image"]
    # libcurl itself asks once more where a connection that it used again turns out to be closed.
    assert [scripted.targets.count(path.encode()) for path in final] == [1] * len(final)


def test_a_job_that_waits_keeps_no_worker_busy_and_wakes_when_it_is_due(
    app: Flask, client: FlaskClient, scripted: ScriptedServer, start_worker: Callable[..., Process], recover: Process
) -> None:
    add_stores(app)
    worker = start_worker(RETRY_ATTEMPTS="2", RETRY_BASE_SECONDS="8", RETRY_MAX_SECONDS="8", SLICE_SECONDS="1")
    job_id = submit(client, visit(images=[scripted.url("/status?code=503")]))
    row = wait_until_tried(client, job_id)
    assert (row["state"], row["error_code"]) == ("open", "http_503")
    wait = (times.parse(row["next_attempt_at"]) - times.parse(status(client, job_id)["started_at"])).total_seconds()
    assert 8 * 0.75 <= wait <= 8 + 5
    time.sleep(1)
    before = cpu_seconds(worker)
    time.sleep(3)
    assert cpu_seconds(worker) - before < 0.5, "the worker is busy with waiting"
    assert len(scripted.requests) == 1
    wait_until_settled(client, job_id)
    assert len(scripted.requests) == 2
    expect_books_balanced(app)


def test_a_job_is_cancelled_under_real_workers_and_retried(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process], recover: Process
) -> None:
    add_stores(app)
    start_worker(SLOTS="40", GPU_PAUSE_MIN_SECONDS="0.1", GPU_PAUSE_MAX_SECONDS="0.2")
    job_id = submit(client, visit(images=good(host, 600)))
    wait_until_some_done(client, job_id, 100)
    found = client.post(f"/api/jobs/{job_id}/cancel").json
    assert found["state"] == "cancelled"
    done = found["images"]["done"]
    assert 100 <= done < 600
    time.sleep(2)
    assert status(client, job_id)["images"]["done"] == done, "a result came in after the cancellation"
    expect_books_balanced(app)
    assert client.post(f"/api/jobs/{job_id}/retry", json={"cancelled": True}).json["reopened"] == 600 - done
    assert wait_until_settled(client, job_id)["status"] == "completed"
    expect_books_balanced(app)
