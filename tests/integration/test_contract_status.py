"""GET /api/status, sentence by sentence of the contract."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.domain import lifecycle
from app.domain.lifecycle import Outcome
from app.domain.works import Work
from tests.integration import hands


def test_ongoing_then_completed(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=3), hands.visit("S01408764", 2))
    status = client.get(f"/api/status?jobid={job}").json
    assert (status["status"], status["job_id"], status["percent"]) == ("ongoing", job, 0.0)
    assert status["started_at"] is None and status["finished_at"] is None and status["eta_seconds"] is None
    hands.work_off(app)
    status = client.get(f"/api/status?jobid={job}").json
    assert (status["status"], status["job_id"], status["percent"]) == ("completed", job, 100.0)
    assert status["images"] == {"total": 5, "open": 0, "done": 5, "failed": 0, "cancelled": 0}
    assert status["visits"] == 2
    assert status["started_at"] and status["finished_at"]
    assert status["eta_seconds"] == 0
    assert "error" not in status


def test_a_job_under_way_says_how_far_it_is(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=30))
    with app.app_context():
        hands.settle(hands.claim(images=10)[:1])
    status = client.get(f"/api/status?jobid={job}").json
    assert (status["status"], status["percent"]) == ("ongoing", 33.3)
    assert status["eta_seconds"] is not None
    assert status["started_at"]
    for link in status["links"].values():
        assert client.get(link).status_code == 200


def test_failed_with_one_entry_a_store_once_all_is_settled(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(
        client,
        hands.visit("S00339218", 2),
        hands.visit("NOWHERE", 1),
        hands.visit("S01408764", 2),
        hands.visit("S00339218", 3),
    )

    def outcome(work: Work) -> Outcome:
        return hands.failed(work) if work.seq in (1, 6) else hands.done(work)

    with app.app_context():
        first, *others = hands.claim(images=1000)
        hands.settle([first], outcome)
        assert not others
    answer = client.get(f"/api/status?jobid={job}")
    assert answer.status_code == 200
    assert answer.json["status"] == "failed"
    assert answer.json["job_id"] == job
    assert answer.json["error"] == [
        {
            "store_id": "S00339218",
            "error": "2 of 5 images failed; first: http_404: the server answered 404 Not Found",
        },
        {"store_id": "NOWHERE", "error": "unknown store: not in the store master"},
    ]
    assert answer.json["images"] == {"total": 8, "open": 0, "done": 5, "failed": 3, "cancelled": 0}


def test_no_error_is_told_while_images_are_open(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=11), hands.visit("NOWHERE"))
    with app.app_context():
        hands.settle(hands.claim(images=1)[:1], hands.failed)
    status = client.get(f"/api/status?jobid={job}").json
    assert status["status"] == "ongoing"
    assert "error" not in status


@pytest.mark.parametrize(
    "jobid", ["0", "-1", "999999999", "9" * 19, "9" * 30, "abc", "1.0", "1e3", "0x1", "1;--", "\u0661"]
)
@pytest.mark.parametrize("name", ["jobid", "jobId", "job_id"])
def test_an_unknown_or_unreadable_id_is_400_and_an_empty_object(client: FlaskClient, name: str, jobid: str) -> None:
    answer = client.get("/api/status", query_string={name: jobid})
    assert answer.status_code == 400
    assert answer.data == b"{}"


@pytest.mark.parametrize("query", ["", "?jobid=", "?other=1"])
def test_no_id_is_400_with_a_sentence(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/api/status{query}")
    assert answer.status_code == 400
    assert "jobid" in answer.json["error"]


@pytest.mark.parametrize("path", ["/api/status", "/api/status/"])
@pytest.mark.parametrize("name", ["jobid", "jobId", "job_id"])
def test_aliases_and_both_slash_forms(app: Flask, client: FlaskClient, path: str, name: str) -> None:
    job = hands.submit(client)
    assert client.get(path, query_string={name: job}).json["job_id"] == job


def test_a_cancelled_job_reads_failed_and_its_open_stores_cancelled(app: Flask, client: FlaskClient) -> None:
    from app.domain import transactions
    from app.extensions import db
    from app.models import Job, Visit

    hands.add_stores(app)
    job = hands.submit(client, hands.visit("S00339218", 2), hands.visit("S01408764", 1))

    def cancel(session) -> None:  # what cancelling will do, as far as the status reads it
        session.execute(db.update(Job).values(state="cancelled", images_open=0, images_cancelled=2, images_done=1))
        is_open = Visit.store_id == "S00339218"
        session.execute(db.update(Visit).where(is_open).values(state="cancelled", images_open=0, images_cancelled=2))

    with app.app_context():
        transactions.run(cancel)
    status = client.get(f"/api/status?jobid={job}").json
    assert (status["status"], status["state"]) == ("failed", "cancelled")
    assert status["error"] == [{"store_id": "S00339218", "error": "cancelled"}]


def test_an_image_due_again_is_open(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client)
    with app.app_context():
        claimed = hands.claim()
        again = Outcome(
            claimed[0].work[0], hands.ImageState.OPEN, error_code="timeout", error_message="slow", delay_seconds=30
        )
        lifecycle.settle([again], [(claimed[0].key, claimed[0].token)])
        assert hands.claim() == []
    row = client.get(f"/api/jobs/{job}/images").json["results"][0]
    assert (row["state"], row["error_code"], row["attempts"]) == ("open", "timeout", 1)
    assert row["next_attempt_at"]
    hands.make_due(app)
    assert hands.work_off(app) == 1
    row = client.get(f"/api/jobs/{job}/images").json["results"][0]
    assert (row["state"], row["error_code"], row["attempts"], row["next_attempt_at"]) == ("done", None, 2, None)
    assert client.get(f"/api/status?jobid={job}").json["status"] == "completed"
    hands.expect_books_balanced(app)
