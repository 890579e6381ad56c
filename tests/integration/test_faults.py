"""Faults of RELIABILITY that have no better place: wrong clocks, deadlocks, a release rolled out under load."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from app import times
from app.domain import claims, images, lifecycle
from app.domain.works import Claim, Room
from app.extensions import db
from demo.host import Host
from testbed import processes
from testbed.processes import Process, wait_for
from testbed.receiver import Receiver
from tests.integration import hands
from tests.integration.receivers import is_signed, outbox, subscribe
from tests.integration.test_workers import asked, good, status, wait_until_settled, wait_until_some_done, workers_of

# Several hosts share a server; SQLite's clock is that of whoever asks.
pytestmark = pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), Path("/nowhere"))


def clock(off: str) -> dict[str, str]:
    """The environment of a process whose host's clock is off; its timers run as ever."""
    assert FAKETIME.exists(), "faketime is not installed; testbed/install.sh installs it"
    return {"LD_PRELOAD": str(FAKETIME), "FAKETIME": off, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def test_clocks_of_hosts_that_are_hours_off_have_no_effect(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process], recover: Process
) -> None:
    """Leases of a worker that lives in the past do not look run out to one in the future, nor do retries wait."""
    hands.add_stores(app)
    slow = {"SLOTS": "20", "CHUNK_SIZE": "10", "LEASE_SECONDS": "60"}
    start_worker(**slow, **clock("-7h"))
    start_worker(**slow, **clock("+5h"))
    started = datetime.now(UTC)
    job_id = hands.submit(client, hands.visit(images=good(host, 600)))
    wait_for(lambda: len(workers_of(app, job_id) - {None}) == 2, 60, what="both workers at the job")
    found = wait_until_settled(client, job_id)
    assert found["images"]["done"] == 600
    assert asked(host).total() == 600, "an image was downloaded twice, or not at all"
    for name in ("created_at", "started_at", "finished_at"):
        moment = times.parse(found[name]).replace(tzinfo=UTC)
        assert started - timedelta(seconds=5) < moment < datetime.now(UTC) + timedelta(seconds=5)
    hands.expect_books_balanced(app)


@pytest.fixture
def late_sender(worker_env: dict[str, str], tmp_path: Path) -> Iterator[Process]:
    with processes.deliver(worker_env | clock("-9h"), tmp_path / "deliver.log") as process:
        yield process


def test_messages_carry_the_time_of_the_database_whatever_the_senders_clock_says(
    app: Flask, client: FlaskClient, late_sender: Process
) -> None:
    with Receiver() as receiver:
        subscribe(client, receiver.url("/hook"), events=["job.failed"])
        hands.submit(client, hands.visit("NOWHERE"))
        wait_for(lambda: outbox(app)[0].state == "delivered", 30)
        [message] = receiver.messages
    assert is_signed(message)
    assert abs(int(message.headers["webhook-timestamp"]) - time.time()) < 30


def test_a_release_rolled_out_under_load_loses_and_repeats_nothing(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process], recover: Process
) -> None:
    """Each worker in its turn is stopped and started again, twice."""
    hands.add_stores(app)
    slow = {"SLOTS": "40", "LEASE_SECONDS": "3600", "GPU_PAUSE_MIN_SECONDS": "0.3", "GPU_PAUSE_MAX_SECONDS": "0.4"}
    workers = [start_worker(**slow), start_worker(**slow)]
    job_id = hands.submit(client, hands.visit(images=good(host, 1500)))
    for turn in range(4):
        wait_until_some_done(client, job_id, 50 * (turn + 1))
        # While it starts, a signal would still just end it.
        wait_for(lambda worker=workers[turn % 2]: worker.is_catching(signal.SIGTERM), 30)  # type: ignore[misc]
        started = time.monotonic()
        assert workers[turn % 2].stop(35) == 0
        assert time.monotonic() - started < 35
        workers[turn % 2] = start_worker(**slow)
    assert status(client, job_id)["images"]["open"], "it was over before all had been restarted"
    assert wait_until_settled(client, job_id)["images"]["done"] == 1500
    assert asked(host).total() == 1500, "an image was downloaded twice"
    hands.expect_books_balanced(app)


def test_a_claim_under_way_when_the_stop_comes_is_given_back(
    make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(LEASE_SECONDS=3600.0)
    hands.add_stores(app)
    hands.submit(app.test_client(), hands.visit(images=50))
    claim, has_claimed = claims.claim, threading.Event()

    def late(*arguments: Any, **options: Any) -> Any:
        claimed = claim(*arguments, **options)
        has_claimed.set()
        time.sleep(1)
        return claimed

    monkeypatch.setattr(claims, "claim", late)
    with app.app_context():
        images.start()
        assert has_claimed.wait(30)
        images.stop()
        images.join()
        assert sum(len(each.work) for each in claim("other", Room(100, 100), lease_seconds=60) or []) == 50
    hands.expect_books_balanced(app)


def test_a_writer_in_the_opposite_order_costs_a_retry_and_no_result(app: Flask, client: FlaskClient) -> None:
    """It holds a visit that a batch is going to want, and then wants an image that the batch has: a deadlock."""
    hands.add_stores(app)
    other = hands.submit(client, hands.visit(images=500))
    job = hands.submit(client, hands.visit("S01408764", images=30), priority=9)
    with app.app_context():
        claimed = [each for _ in range(9) for each in hands.claim(300) if each.key.job_id == job]
        assert sum(len(each.work) for each in claimed) == 30
        outcomes = [hands.done(work) for each in claimed for work in each.work]
        with db.engine.connect() as opposite, structlog.testing.capture_logs() as events:
            # The server gives up whoever has changed fewer rows: it must be the batch.
            opposite.execute(text("UPDATE images SET client_ref = 'x' WHERE job_id = :job"), {"job": other})
            opposite.execute(text("UPDATE visits SET perimeter = perimeter + 1 WHERE job_id = :job"), {"job": job})
            results: list[Any] = []
            batch = threading.Thread(target=_settle, args=(app, outcomes, claimed, results))
            batch.start()
            # The server looks anew only where nobody has asked for a tenth of a second.
            wait_for(lambda: _is_waiting(app), 30, what="the batch to wait for the visit", every=0.25)
            opposite.execute(text("UPDATE images SET client_ref = 'x' WHERE job_id = :job"), {"job": job})
            opposite.rollback()
            batch.join(30)
    assert [settlement.counted for settlement in results] == [30]
    assert [event["reason"] for event in events if event["event"] == "transaction retried"]
    assert status(client, job)["status"] == "completed"
    hands.expect_books_balanced(app)


def _settle(app: Flask, outcomes: Any, claimed: list[Claim], results: list[Any]) -> None:
    with app.app_context():
        results.append(lifecycle.settle(outcomes, [(each.key, each.token) for each in claimed]))


def _is_waiting(app: Flask) -> bool:
    with app.app_context(), db.engine.connect() as connection:
        waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        return bool(connection.execute(text(waiting)).scalar())
