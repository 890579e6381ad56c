"""What all jobs come to: exact while they come, run and end, though those that ended are read only now and then."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from app.domain import access, job_sums, overviews
from app.domain.access import Caller, Scope
from app.domain.overviews import Now
from app.extensions import db
from tests.integration import hands


@pytest.fixture(autouse=True)
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if reading all jobs took long."""
    monkeypatch.setattr(job_sums, "QUICK_SECONDS", 0.0)
    monkeypatch.setattr(job_sums, "LATEST", 0)
    monkeypatch.setattr(job_sums, "MOST_OF_TIME", 1e-9)


def now(app: Flask) -> Now:
    with app.app_context():
        return overviews.now()


def counts(found: Now) -> tuple[int, int, int, int, int, int]:
    return found.jobs, found.ongoing, found.images, found.open, found.done, found.failed


def test_jobs_that_come_run_and_end_are_counted_once(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    assert counts(now(app)) == (0, 0, 0, 0, 0, 0)
    app.extensions["ended_jobs"].clear()
    hands.submit(client, hands.visit(images=3))
    hands.work_off(app, lambda work: hands.failed(work) if work.seq else hands.done(work))
    hands.submit(client, hands.visit(images=20))
    assert counts(now(app)) == (2, 1, 23, 20, 1, 2)  # remembered from here on
    with app.app_context():
        hands.settle(hands.claim(images=10))
    assert counts(now(app)) == (2, 1, 23, 10, 11, 2)
    hands.submit(client, hands.visit(images=5))
    assert counts(now(app)) == (3, 2, 28, 15, 11, 2)
    hands.work_off(app)
    assert counts(now(app)) == (3, 0, 28, 0, 26, 2)


def test_jobs_that_ended_long_ago_are_not_read_again(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit())
    hands.work_off(app)
    now(app)
    statements: list[str] = []
    with app.app_context():
        engine = db.engine
    listen = (engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    event.listen(*listen)  # type: ignore[arg-type]
    now(app)
    event.remove(*listen)  # type: ignore[arg-type]
    [summed] = [each for each in statements if "images_done" in each]
    assert "jobs.id > " in summed


def test_everybody_has_sums_of_their_own(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit())
    for _ in range(2):
        with app.test_request_context():
            access.enter(Caller(7, frozenset({Scope.READ})))
            assert overviews.now().jobs == 0
            access.enter(access.SERVICE)
            assert overviews.now().jobs == 1
