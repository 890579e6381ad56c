"""The sender as the process that it is: killed, stopped, two at once, and what a worker's end of a job sets off."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from demo.host import Host
from testbed import processes
from testbed.processes import Process, wait_for
from testbed.receiver import Receiver
from tests.integration import hands
from tests.integration.receivers import is_signed, make_due, outbox, subscribe


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def start_sender(worker_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(**settings: str) -> Process:
        started.append(processes.deliver(worker_env | settings, tmp_path / f"deliver{len(started)}.log"))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def delivered(app: Flask) -> list[int]:
    return [row.id for row in outbox(app) if row.state == "delivered"]


def test_a_job_done_by_a_worker_is_told_by_the_sender(
    app: Flask,
    client: FlaskClient,
    host: Host,
    receiver: Receiver,
    start_worker: Callable[..., Process],
    start_sender: Callable[..., Process],
) -> None:
    hands.add_stores(app)
    subscribe(client, receiver.url("/hook"))
    start_worker()
    start_sender()
    visits = [hands.visit(images=[f"{host.url}/good{number}.jpg"]) for number in range(5)]
    job = hands.submit(client, *visits, callback_url=receiver.url("/callback"), callback_secret="whsec_" + "A" * 32)
    wait_for(lambda: len(receiver.messages) == 7, 60, what="all messages")
    by_path: dict[str, list[Any]] = {"/hook": [], "/callback": []}
    for message in receiver.messages:
        by_path[message.path].append(message.json["type"])
    assert sorted(by_path["/hook"]) == ["job.completed"] + ["visit.settled"] * 5
    assert by_path["/callback"] == ["job.completed"]
    assert {message.json["data"]["job_id"] for message in receiver.messages} == {job}
    assert all(is_signed(each) == (each.path == "/hook") for each in receiver.messages)
    wait_for(lambda: len(delivered(app)) == 7, 30)
    hands.expect_books_balanced(app)


def test_killed_before_it_could_write_it_sends_again_under_the_same_id(
    app: Flask, client: FlaskClient, receiver: Receiver, start_sender: Callable[..., Process]
) -> None:
    subscribe(client, receiver.url("/hook"), events=["job.failed"])
    receiver.script = ["/release"]
    hands.submit(client, hands.visit("NOWHERE"))
    first = start_sender()
    wait_for(lambda: receiver.messages, 30, what="the message")
    first.kill()
    receiver.released.set()
    assert delivered(app) == []
    start_sender()
    make_due(app)  # the lease would have to run out
    wait_for(lambda: delivered(app), 30)
    assert len(receiver.ids) == 2 and len(set(receiver.ids)) == 1
    assert receiver.messages[0].body == receiver.messages[1].body


def test_told_to_stop_it_lets_messages_arrive_and_writes_that_down(
    app: Flask, client: FlaskClient, receiver: Receiver, start_sender: Callable[..., Process]
) -> None:
    subscribe(client, receiver.url("/good?wait=1"), events=["job.failed"])
    hands.submit(client, hands.visit("NOWHERE"))
    process = start_sender()
    wait_for(lambda: receiver.messages, 30, what="the message")
    process.child.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert len(delivered(app)) == 1


def test_two_share_the_work_and_send_nothing_twice(
    app: Flask, client: FlaskClient, receiver: Receiver, start_sender: Callable[..., Process]
) -> None:
    subscribe(client, receiver.url("/hook"), events=["visit.settled"])
    start_sender()
    start_sender()
    for _ in range(3):
        hands.submit(client, *(hands.visit("NOWHERE") for _ in range(50)))
    wait_for(lambda: len(delivered(app)) == 150, 60, what="all messages")
    assert len(receiver.ids) == len(set(receiver.ids)) == 150


def test_no_secret_and_no_password_of_an_address_is_logged(
    app: Flask, client: FlaskClient, receiver: Receiver, start_sender: Callable[..., Process]
) -> None:
    url = receiver.url("/hook?token=hunter3").replace("//", "//user:hunter2@")
    subscribe(client, url, events=["job.failed"])
    receiver.script = ["/reset", "/status?code=500"]
    hands.submit(client, hands.visit("NOWHERE"))
    process = start_sender(LOG_LEVEL="DEBUG", WEBHOOK_RETRY_BASE_SECONDS="0")
    wait_for(lambda: delivered(app), 30)
    assert process.stop() == 0
    assert "message not delivered" in process.text and "message delivered" in process.text
    assert not [word for word in ("hunter2", "hunter3", "whsec_", "MDEyMzQ1") if word in process.text]
