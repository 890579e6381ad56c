"""One Idempotency-Key makes one job."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from app.domain import transactions
from app.models import IdempotencyKey
from tests.integration import hands


def post(client: FlaskClient, key: str, sent: object = None) -> tuple[int, dict]:
    answer = client.post("/api/submit/", json=sent or hands.body(), headers={"Idempotency-Key": key})
    return answer.status_code, answer.json


def test_the_same_key_and_body_return_the_first_job(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    first = post(client, "order-1")
    assert first[0] == 201
    assert post(client, "order-1") == first
    assert post(client, " order-1 ") == first
    assert len(client.get("/api/jobs").json["results"]) == 1
    assert post(client, "order-2") != first
    assert post(client, "Order-1") != first


def test_the_same_key_with_another_body_is_409_with_the_reason(client: FlaskClient) -> None:
    _, first = post(client, "order-1")
    status, answer = post(client, "order-1", hands.body(hands.visit(images=2)))
    assert status == 409
    assert "Idempotency-Key" in answer["error"]
    assert [job["job_id"] for job in client.get("/api/jobs").json["results"]] == [first["job_id"]]


def test_a_refused_body_does_not_use_the_key_up(client: FlaskClient) -> None:
    assert post(client, "order-1", {"count": 1})[0] == 400
    assert post(client, "order-1")[0] == 201


@pytest.mark.parametrize("key", ["", " ", "k" * 256, "tab\there", "ümlaut", "\x7f"])
def test_an_unusable_key_is_refused(client: FlaskClient, key: str) -> None:
    answer = client.post("/api/submit/", json=hands.body(), headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json["error"]


def test_the_longest_key_is_taken(client: FlaskClient) -> None:
    assert post(client, "k" * 255) == post(client, "k" * 255)
    assert post(client, "k" * 254 + "l") != post(client, "k" * 255)


def test_a_key_is_forgotten_after_its_hours(app: Flask, client: FlaskClient) -> None:
    first = post(client, "order-1")
    aged = IdempotencyKey.created_at

    def age(hours: float) -> None:
        with app.app_context():
            created = transactions.read(lambda session: session.scalars(select(aged)).one())
            older = created - timedelta(hours=hours)
            transactions.run(lambda session: session.execute(update(IdempotencyKey).values(created_at=older)))

    age(47.9)
    assert post(client, "order-1") == first
    age(0.2)
    second = post(client, "order-1", hands.body(hands.visit(images=2)))
    assert second[0] == 201
    assert second != first


def test_fifty_threads_with_one_key_make_one_job(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    answers: list[tuple[int, dict]] = []
    together = threading.Barrier(50)

    def send() -> None:
        mine = app.test_client()
        together.wait()
        answers.append(post(mine, "order-1", hands.body(hands.visit(images=50))))

    threads = [threading.Thread(target=send) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for status, _ in answers} == {201}
    assert len({answer["job_id"] for _, answer in answers}) == 1
    assert len(client.get("/api/jobs").json["results"]) == 1
    hands.expect_books_balanced(app)
