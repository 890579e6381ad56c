"""POST /api/jobs/<id>/cancel: what is open ends, what is settled stays."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from app.domain import cancellations, chunk_leases, claims, lifecycle, recover, transactions
from app.domain.works import Room
from app.models import Chunk, Job
from app.sql import db_now
from tests.integration import hands


def cancel(client: FlaskClient, job: int, key: str | None = None) -> Any:
    return client.post(f"/api/jobs/{job}/cancel", headers={"Idempotency-Key": key} if key else {})


def status(client: FlaskClient, job: int) -> Any:
    return client.get(f"/api/status?jobid={job}").json


def test_cancel_keeps_images_already_settled(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=10), hands.visit("S01408764", 10), hands.visit("NOWHERE", 2))
    with app.app_context():
        hands.settle(hands.claim(images=10)[:1])
    answer = cancel(client, job)
    assert answer.status_code == 200
    assert answer.json == status(client, job)
    assert (answer.json["status"], answer.json["state"]) == ("failed", "cancelled")
    assert answer.json["images"] == {"total": 22, "open": 0, "done": 10, "failed": 2, "cancelled": 10}
    assert answer.json["error"] == [
        {"store_id": "S01408764", "error": "cancelled"},
        {"store_id": "NOWHERE", "error": "unknown store: not in the store master"},
    ]
    assert answer.json["finished_at"] and answer.json["cancelled_at"]
    assert [row["seq"] for row in client.get(f"/api/jobs/{job}/images?state=cancelled").json["results"]] == list(
        range(10, 20)
    )
    found = client.get("/api/visits?storeid=S00339218").json["results"]
    assert [visit["perimeter"] for visit in found[0]["data"]] == [10_000]
    assert [found["job_id"] for found in client.get("/api/jobs?state=cancelled").json["results"]] == [job]
    hands.expect_books_balanced(app)


def test_a_visit_under_way_ends_as_failed_where_one_of_its_images_had_failed(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=20), hands.visit("S01408764", 20))
    with app.app_context():
        first, _, third, *_ = hands.claim(images=40)
        hands.settle([first], lambda work: hands.failed(work) if work.seq == 3 else hands.done(work))
        hands.settle([third])
    assert cancel(client, job).json["error"] == [
        {
            "store_id": "S00339218",
            "error": "1 of 20 images failed; first: http_404: the server answered 404 Not Found; 10 cancelled",
        },
        {"store_id": "S01408764", "error": "cancelled"},
    ]
    hands.expect_books_balanced(app)


def test_results_of_workers_that_are_still_at_it_are_refused(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=25))
    with app.app_context():
        held = hands.claim()
        cancel(client, job)
        chunk_leases.renew([(each.key, each.token) for each in held], lease_seconds=60)
        settlement = hands.settle(held)
        assert (settlement.counted, settlement.refused) == (0, 25)
        hands.make_due(app)
        assert hands.claim() == []
    assert status(client, job)["images"]["cancelled"] == 25
    hands.expect_books_balanced(app)


def test_nothing_of_a_job_is_claimed_once_its_cancellation_has_begun(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=25))
    with app.app_context():
        transactions.run(lambda session: session.execute(update(Job).values(cancelled_at=db_now())))
        assert hands.claim() == []
    assert status(client, job)["status"] == "ongoing"


def test_an_image_that_waits_for_another_attempt_is_cancelled(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=2))
    with app.app_context():
        hands.settle(hands.claim(), lambda work: hands.again(work, 3600))
    cancel(client, job)
    row = client.get(f"/api/jobs/{job}/images").json["results"][0]
    assert (row["state"], row["attempts"], row["next_attempt_at"]) == ("cancelled", 1, None)
    hands.expect_books_balanced(app)


def test_a_second_cancel_is_harmless(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=25))
    first = cancel(client, job)
    second = cancel(client, job)
    assert (second.status_code, second.json) == (200, first.json)


@pytest.mark.parametrize(("store", "state"), [("S00339218", "completed"), ("NOWHERE", "failed")])
def test_a_job_that_has_ended_is_409_with_the_reason(app: Flask, client: FlaskClient, store: str, state: str) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(store))
    hands.work_off(app)
    before = status(client, job)
    answer = cancel(client, job)
    assert (answer.status_code, answer.json) == (
        409,
        {"error": f"job {job} is {state}: there is nothing left to cancel"},
    )
    assert status(client, job) == before


@pytest.mark.parametrize("action", ["cancel", "retry"])
@pytest.mark.parametrize("job", ["999999", "0", "9" * 19, "9" * 40, "abc", "-1"])
def test_an_unknown_job_is_404(client: FlaskClient, job: str, action: str) -> None:
    answer = client.post(f"/api/jobs/{job}/{action}")
    assert answer.status_code == 404
    assert answer.json["error"]


def test_a_repeated_cancel_does_not_stop_a_job_that_was_retried_since(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=5))
    cancel(client, job, "stop-1")
    client.post(f"/api/jobs/{job}/retry", json={"cancelled": True})
    assert cancel(client, job, "stop-1").json["status"] == "ongoing"
    hands.work_off(app)
    assert status(client, job)["status"] == "completed"


def test_a_cancel_that_was_cut_off_is_finished_by_the_recover_loop(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=450))
    monkeypatch.setattr(cancellations, "CHUNKS_A_SLICE", 3)
    monkeypatch.setattr(cancellations, "REQUEST_SECONDS", 0)
    answer = cancel(client, job)
    assert answer.status_code == 202
    assert answer.json["status"] == "ongoing" and answer.json["cancelled_at"]
    assert 0 < answer.json["images"]["cancelled"] < 450
    hands.expect_books_balanced(app)
    assert client.post(f"/api/jobs/{job}/retry").json == {"job_id": job, "reopened": 0, "unknown_store": 0}
    refused = client.post(f"/api/jobs/{job}/retry", json={"cancelled": True})
    assert refused.status_code == 409
    assert "being cancelled" in refused.json["error"]
    monkeypatch.setattr(cancellations, "REQUEST_SECONDS", 5)
    stop = threading.Event()
    stop.set()
    with app.app_context():
        recover.run(stop)
    assert status(client, job)["images"]["cancelled"] == 450
    assert status(client, job)["state"] == "cancelled"
    hands.expect_books_balanced(app)


def test_a_job_that_ends_before_its_cancellation_comes_to_it_is_completed(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=5))
    with app.app_context():
        held = hands.claim()
        transactions.run(lambda session: session.execute(update(Job).values(cancelled_at=db_now())))
        hands.settle(held)
        cancellations.resume()
    assert status(client, job)["state"] == "completed"
    hands.expect_books_balanced(app)


@pytest.mark.parametrize("after", [False, True])
def test_a_cancel_whose_commit_is_cut_counts_once(
    app: Flask, client: FlaskClient, cut_commit: Any, after: bool
) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=25))
    cuts = cut_commit(after=after)
    assert cancel(client, job).json["images"]["cancelled"] == 25
    assert cuts
    hands.expect_books_balanced(app)


def test_cancel_while_workers_claim_and_settle(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=1500), hands.visit("S01408764", 500))
    other = hands.submit(client, hands.visit("S02000001", 400))
    counted: list[int] = []
    refused: list[int] = []
    has_begun = threading.Event()

    def work() -> None:
        with app.app_context():
            while (claimed := claims.claim("w", Room(40, 40), lease_seconds=60)) is not None:
                has_begun.set()
                time.sleep(0.01)  # time for the cancellation, which has to come in between
                outcomes = [hands.failed(w) if w.seq % 7 == 0 else hands.done(w) for c in claimed for w in c.work]
                settlement = lifecycle.settle(outcomes, [(c.key, c.token) for c in claimed])
                counted.append(settlement.counted)
                refused.append(settlement.refused)

    def stop() -> None:
        has_begun.wait()
        answers.append(cancel(app.test_client(), job).status_code)

    answers: list[int] = []
    threads = [threading.Thread(target=target) for target in (work, work, work, stop, stop)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = status(client, job)
    assert answers == [200, 200]
    assert found["state"] == "cancelled"
    assert found["images"]["done"] + found["images"]["failed"] + 400 == sum(counted)
    assert found["images"]["cancelled"] == 2000 - sum(counted) + 400 > 0
    assert status(client, other)["images"]["open"] == 0
    hands.expect_books_balanced(app)


def test_no_chunk_of_a_cancelled_job_is_left_due(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=25))
    with app.app_context():
        hands.claim(images=10)
        cancel(client, job)
        assert recover.recover() == 0
        assert set(transactions.read(lambda session: session.scalars(select(Chunk.due_at)).all())) == {None}
