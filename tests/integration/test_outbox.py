"""Events are written where they happen: each once, for each who listens, and at no cost where nobody does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from app.domain import cancellations
from app.domain.access import Caller, Scope
from app.extensions import db
from app.web import auth
from tests.integration import hands
from tests.integration.receivers import outbox, subscribe, told


@contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """What is executed in the block."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", note)
        yield seen
        event.remove(db.engine, "before_cursor_execute", note)


def test_a_completed_job_is_told_with_its_counts(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    subscribe(client, events=["job.completed", "job.failed"])
    job = hands.submit(client, hands.visit(images=3), metadata={"tour": 7})
    assert outbox(app) == []
    hands.work_off(app)
    [row] = outbox(app)
    shown = client.get(f"/api/deliveries/{row.id}").json
    assert (shown["state"], shown["attempts"], shown["tries"]) == ("pending", 0, [])
    payload = shown["payload"]
    status = client.get(f"/api/status?jobid={job}").json
    assert (payload["type"], payload["timestamp"]) == ("job.completed", shown["created_at"])
    data = payload["data"]
    assert data["images"] == {"total": 3, "done": 3, "failed": 0, "cancelled": 0}
    assert (data["job_id"], data["status"], data["state"], data["version"]) == (job, "completed", "completed", 1)
    assert (data["visits"], data["metadata"], data["source"]) == (1, {"tour": 7}, "urls")
    assert [data[name] for name in ("created_at", "started_at", "finished_at")] == [
        status[name] for name in ("created_at", "started_at", "finished_at")
    ]
    assert all(client.get(link).status_code == 200 for link in data["links"].values())


def test_each_visit_is_told_when_it_is_settled(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    subscribe(client)
    job = hands.submit(client, hands.visit(images=10), hands.visit("S01408764", 10, "2020-09-02 05:30:00+05:30"))
    with app.app_context():
        first, second = hands.claim()
        hands.settle([first])
    assert told(app) == [("visit.settled", job, 0, 1)]
    with app.app_context():
        hands.settle([second], lambda work: hands.failed(work) if work.seq == 12 else hands.done(work))
    assert told(app)[1:] == [("visit.settled", job, 1, 1), ("job.failed", job, None, 1)]
    good, bad = (
        client.get(f"/api/deliveries/{row.id}").json["payload"]["data"]
        for row in outbox(app)
        if row.event == "visit.settled"
    )
    assert (good["store_id"], good["status"], good["perimeter"]) == ("S00339218", "completed", 10_000)
    assert (good["date"], good["visit_time"]) == ("2020-09-02T00:00:53Z",) * 2
    assert good["average_seconds"] == 0.25
    assert (bad["status"], bad["perimeter"], bad["error_code"]) == ("failed", None, "http_404")
    assert (bad["date"], bad["visit_time"]) == ("2020-09-02T00:00:00Z", "2020-09-02 05:30:00+05:30")
    assert bad["images"] == {"total": 10, "failed": 1, "cancelled": 0}
    assert all(client.get(link).status_code == 200 for link in bad["links"].values())
    hands.expect_books_balanced(app)


def test_a_job_that_is_born_closed_is_told_too(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    subscribe(client)
    job = hands.submit(client, hands.visit("NOWHERE"), hands.visit("NOBODY"))
    assert sorted(told(app), key=str) == [
        ("job.failed", job, None, 1),
        ("visit.settled", job, 0, 1),
        ("visit.settled", job, 1, 1),
    ]
    other = hands.submit(client, hands.visit("NOWHERE"), hands.visit())
    assert told(app)[3:] == [("visit.settled", other, 0, 1)]


def test_a_cancelled_job_is_told_as_failed_and_says_so(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    subscribe(client)
    job = hands.submit(client, hands.visit(images=20), hands.visit("S01408764", 20))
    with app.app_context():
        hands.settle(hands.claim(images=10)[:1])
    client.post(f"/api/jobs/{job}/cancel")
    client.post(f"/api/jobs/{job}/cancel")
    rows = [client.get(f"/api/deliveries/{row.id}").json["payload"] for row in outbox(app)]
    assert [(row["type"], row["data"].get("visit")) for row in rows] == [
        ("visit.settled", 0),
        ("visit.settled", 1),
        ("job.failed", None),
    ]
    assert {(row["data"]["status"], row["data"]["state"]) for row in rows} == {("failed", "cancelled")}


def test_a_cancellation_in_slices_tells_each_visit_once(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands.add_stores(app)
    monkeypatch.setattr(cancellations, "CHUNKS_A_SLICE", 3)
    subscribe(client)
    job = hands.submit(client, *(hands.visit(images=9) for _ in range(50)))
    client.post(f"/api/jobs/{job}/cancel")
    visits = [row[2] for row in told(app) if row[0] == "visit.settled"]
    assert sorted(visits) == list(range(50))


def test_a_retry_tells_again_with_the_next_version(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    subscribe(client)
    job = hands.submit(client, hands.visit(images=10), hands.visit("S01408764", 10))
    hands.work_off(app, lambda work: hands.failed(work) if work.visit_seq else hands.done(work))
    before = told(app)
    client.post(f"/api/jobs/{job}/retry")
    hands.work_off(app)
    assert sorted(told(app)[len(before) :], key=str) == [("job.completed", job, None, 2), ("visit.settled", job, 1, 2)]
    # What was told before stays as it was.
    assert [row.data["state"] for row in outbox(app) if row.version == 1 and row.event == "job.failed"] == ["failed"]


def test_a_callback_is_told_of_its_job_only(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(), callback_url="https://host.example/cb")
    hands.submit(client, hands.visit())
    hands.work_off(app)
    assert told(app) == [("job.completed", job, None, 1)]
    [callback] = client.get(f"/api/webhooks?job_id={job}").json["results"]
    assert (callback["url"], callback["job_id"]) == ("https://host.example/cb", job)
    assert client.get("/api/webhooks").json["results"] == []
    [delivery] = client.get(callback["links"]["deliveries"]).json["results"]
    assert (delivery["event"], delivery["job_id"]) == ("job.completed", job)


def test_a_callback_of_a_job_that_is_born_closed_is_told(app: Flask, client: FlaskClient) -> None:
    job = hands.submit(client, hands.visit("NOWHERE"), callback_url="https://host.example/cb")
    assert told(app) == [("job.failed", job, None, 1)]


def test_several_listeners_get_one_each(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    both = subscribe(client), subscribe(client, events=["job.completed"])
    subscribe(client, events=["job.failed"])
    subscribe(client, enabled=False)
    hands.submit(client, hands.visit(), callback_url="https://host.example/cb")
    hands.work_off(app)
    by_listener = [[row.event for row in outbox(app) if row.webhook_id == webhook] for webhook in both]
    assert by_listener == [["visit.settled", "job.completed"], ["job.completed"]]
    assert len(outbox(app)) == 4


def test_who_owns_the_job_is_told_and_nobody_else(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands.add_stores(app)
    ours, theirs = (Caller(owner, frozenset({Scope.SUBMIT, Scope.READ})) for owner in (7, 8))
    for_all = subscribe(client)
    with monkeypatch.context() as as_us:
        as_us.setattr(auth.access, "SERVICE", ours)
        for_us = subscribe(client)
    with monkeypatch.context() as as_them:
        as_them.setattr(auth.access, "SERVICE", theirs)
        subscribe(client)
    with monkeypatch.context() as as_us:
        as_us.setattr(auth.access, "SERVICE", ours)
        hands.submit(client, hands.visit(), hands.visit("NOWHERE"))
    hands.work_off(app)
    assert Counter(row.webhook_id for row in outbox(app)) == {for_all: 3, for_us: 3}


@pytest.mark.parametrize("after", [False, True])
def test_events_of_a_batch_whose_commit_is_cut_are_told_once(
    app: Flask, client: FlaskClient, cut_commit: Any, after: bool
) -> None:
    hands.add_stores(app)
    subscribe(client)
    job = hands.submit(client, hands.visit(images=5), hands.visit("S01408764", 5))
    with app.app_context():
        claimed = hands.claim()
        cuts = cut_commit(after=after)
        hands.settle(claimed)
    assert cuts
    assert sorted(told(app), key=str) == [
        ("job.completed", job, None, 1),
        ("visit.settled", job, 0, 1),
        ("visit.settled", job, 1, 1),
    ]
    hands.expect_books_balanced(app)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("what", ["submit", "cancel"])
def test_events_of_a_request_whose_commit_is_cut_are_told_once(
    app: Flask, client: FlaskClient, cut_commit: Any, after: bool, what: str
) -> None:
    hands.add_stores(app)
    subscribe(client)
    store = "NOWHERE" if what == "submit" else "S00339218"
    if what == "submit":
        cuts = cut_commit(after=after)
        job = hands.submit(client, hands.visit(store), callback_url="https://host.example/cb")
    else:
        job = hands.submit(client, hands.visit(store), callback_url="https://host.example/cb")
        cuts = cut_commit(after=after)
        client.post(f"/api/jobs/{job}/cancel")
    assert cuts
    assert sorted(told(app), key=str) == [("job.failed", job, None, 1)] * 2 + [("visit.settled", job, 0, 1)]
    assert len(client.get(f"/api/webhooks?job_id={job}").json["results"]) == 1


def test_where_nobody_listens_a_batch_has_no_statement_more(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, *(hands.visit(images=4) for _ in range(20)))
    with app.app_context():
        claimed = hands.claim()
        with statements(app) as seen:
            hands.settle(claimed)
    assert not [statement for statement in seen if "INSERT INTO deliveries" in statement]
    asked = [statement for statement in seen if "webhooks" in statement]
    assert len(asked) == 1 and "FROM jobs" in asked[0], "it is asked for in the query that looks for closed jobs"


def test_a_batch_of_many_visits_is_told_in_two_statements(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    subscribe(client)
    subscribe(client)
    hands.submit(client, *(hands.visit() for _ in range(500)))
    with app.app_context():
        claimed = hands.claim()
        with statements(app) as seen:
            hands.settle(claimed)
    assert len([statement for statement in seen if "INSERT INTO deliveries" in statement]) <= 2
    assert len(outbox(app)) >= 2 * len([work for each in claimed for work in each.work])
