"""How much somebody may ask for, and how much work may wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from app import broker
from app.domain import backlog, keys, rates
from app.domain.access import Scope
from app.domain.keys import NewKey
from config import Settings
from tests.integration import hands


@pytest.fixture(autouse=True)
def nothing_counted(settings: Settings) -> None:
    """Numbers of keys come again on an empty database, and the broker is that of the test before."""
    with redis.Redis.from_url(broker.client_url(settings.REDIS_URL, settings.DATA_DIR)) as client:
        for name in client.scan_iter(f"{rates.PREFIX}*"):
            client.delete(name)


def new_key(app: Flask) -> dict[str, str]:
    with app.app_context():
        made = keys.create(NewKey(scopes=frozenset({Scope.SUBMIT, Scope.READ})))
    return {"Authorization": f"Bearer {made.text}"}


def told(answer: Any) -> list[int]:
    return [int(answer.headers[f"RateLimit-{name}"]) for name in ("Limit", "Remaining", "Reset")]


def test_past_its_rate_a_key_is_refused_and_others_are_not(make_app: Callable[..., Flask]) -> None:
    app = make_app(AUTH="keys", RATE_LIMIT="3/hour")
    client = app.test_client()
    ours, theirs = new_key(app), new_key(app)
    for remaining in (2, 1, 0):
        answer = client.get("/api/jobs", headers=ours)
        assert answer.status_code == 200
        assert told(answer)[:2] == [3, remaining]
        assert 0 < told(answer)[2] <= 3600
        assert "Retry-After" not in answer.headers
    refused = client.get("/api/visits?storeid=x", headers=ours)
    assert refused.status_code == 429
    assert refused.json == {"error": "more than 3 requests in 3600 s"}
    assert told(refused) == [3, 0, int(refused.headers["Retry-After"])]
    assert client.get("/api/jobs", headers=theirs).status_code == 200
    assert client.get("/live", headers=ours).status_code == 200
    # Another process of the same service counts with it.
    assert make_app(AUTH="keys", RATE_LIMIT="3/hour").test_client().get("/api/jobs", headers=ours).status_code == 429


def test_tries_with_wrong_keys_are_counted_by_address(make_app: Callable[..., Flask]) -> None:
    client = make_app(AUTH="keys", RATE_LIMIT_NO_KEY="5/hour", TRUSTED_PROXIES="127.0.0.1").test_client()

    def guess(address: str, number: int) -> int:
        headers = {"X-API-Key": f"ij_aaaaaaaa_{number:043}", "X-Forwarded-For": address}
        return client.get("/api/jobs", headers=headers).status_code

    assert [guess("203.0.113.7", number) for number in range(7)] == [401] * 5 + [429] * 2
    assert guess("203.0.113.8", 8) == 401


def test_what_was_done_says_when_to_come_back_whatever_the_rate(make_app: Callable[..., Flask]) -> None:
    app = make_app(AUTH="keys", RATE_LIMIT="100/hour")
    answer = app.test_client().post("/api/submit/", json=hands.body(), headers=new_key(app))
    assert (answer.status_code, answer.headers["Retry-After"]) == (201, "2")


def test_this_host_may_ask_as_often_as_it_likes(make_app: Callable[..., Flask]) -> None:
    client = make_app(RATE_LIMIT="1/hour", RATE_LIMIT_NO_KEY="1/hour").test_client()
    answers = [client.get("/api/jobs") for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit-Limit" not in answers[0].headers


def test_without_redis_requests_are_counted_all_the_same(make_app: Callable[..., Flask]) -> None:
    app = make_app(AUTH="keys", RATE_LIMIT="2/hour", REDIS_URL="redis://127.0.0.1:1/0")
    client, headers = app.test_client(), new_key(app)
    assert [client.get("/api/jobs", headers=headers).status_code for _ in range(4)] == [200, 200, 429, 429]


def fill(client: FlaskClient, images: int, headers: dict[str, str] | None = None) -> Any:
    return client.post("/api/submit/", json=hands.body(hands.visit(images=images)), headers=headers)


def test_a_full_queue_takes_no_more_until_it_has_room(
    make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(QUEUE_MAX_IMAGES=100)
    client = app.test_client()
    hands.add_stores(app)
    # Read once and then added to: a job of another process is seen at the next reading.
    monkeypatch.setattr(backlog, "FRESH_SECONDS", 3600)
    assert fill(client, 60).status_code == 201
    assert fill(client, 40).status_code == 201
    refused = fill(client, 1)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "30")
    assert refused.json == {"error": "the queue is full: 100 images wait, and at most 100 may; try again later"}
    assert len(client.get("/api/jobs").json["results"]) == 2
    # Images that nobody will work on do not wait.
    assert client.post("/api/submit/", json=hands.body(hands.visit("NOWHERE"))).status_code == 201
    hands.work_off(app)
    app.extensions.pop("backlog")
    assert fill(client, 100).status_code == 201
    app.extensions.pop("backlog")
    assert fill(client, 1).status_code == 503
    hands.expect_books_balanced(app)


def test_a_request_repeated_while_the_queue_is_full_gets_its_job(make_app: Callable[..., Flask]) -> None:
    app = make_app(QUEUE_MAX_IMAGES=10)
    client = app.test_client()
    hands.add_stores(app)
    first = fill(client, 10, {"Idempotency-Key": "a"})
    assert fill(client, 10, {"Idempotency-Key": "b"}).status_code == 503
    again = fill(client, 10, {"Idempotency-Key": "a"})
    assert (again.status_code, again.json) == (201, first.json)


def test_one_owner_may_not_fill_the_queue_of_all(make_app: Callable[..., Flask]) -> None:
    app = make_app(AUTH="keys", QUEUE_MAX_IMAGES=100, QUEUE_MAX_IMAGES_OF_OWNER=60)
    client = app.test_client()
    hands.add_stores(app)
    ours, theirs = new_key(app), new_key(app)
    assert fill(client, 60, ours).status_code == 201
    refused = fill(client, 1, ours)
    assert refused.status_code == 503
    assert "of this key's owner" in refused.json["error"]
    assert fill(client, 40, theirs).status_code == 201
    assert "100 images wait" in fill(client, 1, theirs).json["error"]
