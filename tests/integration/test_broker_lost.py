"""A broker that dies under workers in the middle of their tasks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from demo.host import Host
from testbed.processes import Process, wait_for
from testbed.redis import Redis
from tests.integration import hands
from tests.integration.test_workers import good, wait_until_settled, wait_until_some_done

pytestmark = pytest.mark.parametrize("backend", ["mariadb"], indirect=True)


def is_listened_to(broker: Redis) -> bool:
    """Whether a worker waits for bells."""
    with broker.client() as client:
        return client.info("clients")["blocked_clients"] > 0


def test_a_worker_in_the_middle_of_a_task_lives_through_it(
    make_app: Callable[..., Flask], host: Host, start_worker: Callable[..., Process]
) -> None:
    """kombu would put its message back by a client that it can no longer make, and the worker would end of that."""
    with Redis() as broker:
        app = make_app(REDIS_URL=broker.url)
        hands.add_stores(app)
        client = app.test_client()
        worker = start_worker(REDIS_URL=broker.url, SLOTS="10", CHUNK_SIZE="10")
        wait_for(lambda: is_listened_to(broker), 30, what="the worker at the broker")
        job = hands.submit(client, hands.visit(images=good(host, 400)))
        wait_until_some_done(client, job, 10)
        broker.kill()
        wait_for(lambda: "Connection to broker lost" in worker.text, 30, what="the worker to notice")
        broker.start()
        wait_for(lambda: not worker.is_alive or is_listened_to(broker), 60, what="the worker at the broker again")
        assert wait_until_settled(client, job)["images"]["done"] == 400
        hands.submit(client, hands.visit(images=good(host, 1)))  # and its task has ended: what it held was acknowledged
        wait_for(lambda: client.get("/api/jobs").json["results"][0]["state"] == "completed", 30)
        assert worker.is_alive and "Unrecoverable error" not in worker.text
        hands.expect_books_balanced(app)


def sockets(process: Process) -> int:
    found = 0
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            found += os.readlink(link).startswith("socket:")
        except FileNotFoundError:
            pass
    return found


def settled_sockets(process: Process) -> int:
    """How many there are once their number stays the same for a second."""
    seen: list[int] = []

    def are_the_same() -> bool:
        seen.append(sockets(process))
        return len(seen) >= 20 and len(set(seen[-20:])) == 1

    wait_for(are_the_same, 30, what="a number of sockets that stays")
    return seen[-1]


def test_no_socket_is_left_of_brokers_that_are_gone(
    make_app: Callable[..., Flask], start_worker: Callable[..., Process]
) -> None:
    with Redis() as broker:
        make_app(REDIS_URL=broker.url)
        worker = start_worker(REDIS_URL=broker.url)
        wait_for(lambda: is_listened_to(broker), 30, what="the worker at the broker")
        counts = [settled_sockets(worker)]
        for times in range(1, 5):
            broker.kill()
            wait_for(lambda: worker.text.count("Connection to broker lost") >= times, 30)  # noqa: B023
            broker.start()
            wait_for(lambda: is_listened_to(broker), 60, what="the worker at the broker again")
            counts.append(settled_sockets(worker))
        assert counts[-1] <= counts[0] + 3, counts
