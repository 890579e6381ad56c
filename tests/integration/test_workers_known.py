"""Workers tell the database that they live, find work without a bell, and end when they are stuck."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from app import queues
from app.domain import jobs, transactions, workers
from app.domain.jobs import NewImage, NewJob
from app.errors import SettingError
from app.models import Chunk, JobSource, Worker
from app.sql import db_now
from demo.host import Host
from testbed.processes import Process, wait_for
from tests.conftest import Backend
from tests.integration.hands import add_stores, expect_books_balanced, submit, visit
from tests.integration.test_workers import good, status, wait_until_settled

# A worker whose decoder hangs for ever, and that is given two seconds.
STUCK_WORKER = """
import sys, threading
from app.domain import pump, workers
from app.processors import perimeter
perimeter.execute = perimeter.glance = lambda *image, **limits: threading.Event().wait()
pump.BEAT_SECONDS = workers.BEAT_SECONDS = 0.5
pump.Progress = lambda most_seconds: workers.Progress(2.0)
from celery.__main__ import main
sys.argv = ["celery", "-A", "celery_worker", "worker"]
main()
"""


def known(app: Flask) -> list[tuple[int, bool]]:
    with app.app_context():
        return [(worker.pid, is_alive) for worker, is_alive in workers.find()]


def test_worker_is_known_from_its_start_to_its_end(app: Flask, start_worker: Callable[..., Process]) -> None:
    worker = start_worker()
    wait_for(lambda: known(app), 30, what="the row of a worker")
    assert known(app) == [(worker.pid, True)]
    wait_for(lambda: worker.is_catching(signal.SIGTERM), 30, what="a worker that can be stopped")
    worker.stop()
    assert known(app) == []


def test_killed_worker_is_known_for_a_day(app: Flask, start_worker: Callable[..., Process]) -> None:
    worker = start_worker()
    wait_for(lambda: known(app), 30, what="the row of a worker")
    worker.kill()
    for hours, expected in ((1, [(worker.pid, False)]), (25, [])):
        with app.app_context():
            seen = update(Worker).values(seen_at=db_now(-3600.0 * hours))
            transactions.run(lambda session, seen=seen: session.execute(seen))  # type: ignore[misc]
            workers.forget()
        assert known(app) == expected


def test_name_used_before_is_a_new_worker(app: Flask) -> None:
    me = workers.Identity("host:1", "host", 1, 500, "0.1")
    with app.app_context():
        assert not workers.beat(me.name, in_flight=0, settled=0)
        workers.join(me)
        assert workers.beat(me.name, in_flight=3, settled=40)
        workers.join(me)
        [(worker, is_alive)] = workers.find()
    assert (worker.settled, worker.in_flight, is_alive) == (0, 0, True)


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_work_is_found_while_no_bell_is_rung(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process]
) -> None:
    add_stores(app)
    start_worker(REDIS_URL="redis://127.0.0.1:1/0")  # a broker that is away, from the start on
    job_id = submit(client, visit(images=good(host, 20)))
    assert wait_until_settled(client, job_id)["images"]["done"] == 20
    expect_books_balanced(app)


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_worker_that_is_stuck_ends_itself(
    app: Flask, client: FlaskClient, host: Host, worker_env: dict[str, str], backend: Backend, tmp_path: Path
) -> None:
    add_stores(app)
    job_id = submit(client, visit(images=good(host, 20)))
    env = worker_env | {"FETCH_TIMEOUT_SECONDS": "0.5", "FETCH_CONNECT_TIMEOUT_SECONDS": "0.5"}
    worker = Process([sys.executable, "-c", STUCK_WORKER], env=env, log=tmp_path / "stuck.log")
    with worker:
        assert worker.wait(30) == 75, worker.text
    assert status(client, job_id)["images"]["open"] == 20


def test_a_worker_of_one_door_leaves_the_others_alone(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process]
) -> None:
    add_stores(app)
    by_url = submit(client, visit(images=good(host, 20)))
    with app.app_context():
        images = tuple(NewImage(url=url) for url in good(host, 20))
        by_manifest = jobs.create(NewJob(JobSource.MANIFESTS, images=images)).job_id
    start_worker(WORKER_SOURCES="manifests,uploads")
    wait_until_settled(client, by_manifest)
    assert status(client, by_url)["status"] == "ongoing"
    assert all(count == 0 for _, count in started_images(app, by_url))
    start_worker()
    wait_until_settled(client, by_url)
    expect_books_balanced(app)


def started_images(app: Flask, job_id: int) -> list[tuple[int, int]]:
    query = select(Chunk.seq, Chunk.claim).where(Chunk.job_id == job_id)
    with app.app_context():
        return transactions.read(lambda session: list(map(tuple, session.execute(query))))


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_a_worker_of_one_door_hears_its_own_bells(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process]
) -> None:
    """Also those that it rings itself, when its slice is over."""
    worker = start_worker(WORKER_SOURCES="manifests", SLICE_SECONDS="0.2", SLOTS="10")
    wait_for(lambda: len(known(app)) == 1, 30)
    with queues._connection().channel() as channel:
        assert channel.queue_declare(queue="images.manifests", durable=True).message_count == 0
    with app.app_context():
        images = tuple(NewImage(url=url) for url in good(host, 100))
        job = jobs.create(NewJob(JobSource.MANIFESTS, images=images)).job_id
    wait_until_settled(client, job)
    assert worker.is_alive


def test_a_door_that_there_is_not_stops_the_start(make_app: Callable[..., Flask]) -> None:
    with pytest.raises(SettingError, match="WORKER_SOURCES: there is no door gates; known are urls, "):
        make_app(WORKER_SOURCES="gates")
