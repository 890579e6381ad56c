"""A broker that dies under workers in the middle of their tasks."""

from __future__ import annotations

from collections.abc import Callable

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
