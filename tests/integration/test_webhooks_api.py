"""Subscriptions over HTTP: made, shown without their secret, changed, removed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.domain import webhooks
from app.domain.access import Caller, Scope
from app.web import auth
from tests.integration import hands
from tests.integration.receivers import ELSEWHERE, SECRET, outbox, subscribe

BACK_END = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def test_the_secret_is_shown_when_it_is_made_and_never_again(client: FlaskClient) -> None:
    made = client.post("/api/webhooks", json={"url": ELSEWHERE})
    assert made.status_code == 201
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", made.json["secret"])
    address = made.headers["Location"]
    shown = client.get(address).json
    assert shown == {name: value for name, value in made.json.items() if name != "secret"}
    assert (shown["events"], shown["enabled"], shown["job_id"]) == (["job.completed", "job.failed"], True, None)
    everything = [client.get(path).text for path in (address, "/api/webhooks", shown["links"]["deliveries"])]
    everything.append(client.patch(address, json={"description": "x"}).text)
    assert not any("whsec_" in text for text in everything)


def test_a_webhook_is_changed_field_by_field(client: FlaskClient) -> None:
    webhook = subscribe(client, description="old")
    address = f"/api/webhooks/{webhook}"
    before = client.get(address).json
    assert client.patch(address, json={}).json | {"updated_at": None} == before | {"updated_at": None}
    changed = client.patch(
        address, json={"url": "https://new.example/", "events": ["visit.settled", "visit.settled"], "enabled": False}
    ).json
    assert (changed["url"], changed["events"], changed["enabled"]) == ("https://new.example/", ["visit.settled"], False)
    assert changed["description"] == "old"
    assert client.patch(address, json={"description": ""}).json["description"] is None
    assert client.get(address).json["events"] == ["visit.settled"]


def test_a_removed_webhook_is_gone(app: Flask, client: FlaskClient) -> None:
    webhook = subscribe(client)
    removed = client.delete(f"/api/webhooks/{webhook}")
    assert (removed.status_code, removed.json["webhook_id"]) == (200, webhook)
    for call in (client.get, client.delete):
        assert call(f"/api/webhooks/{webhook}").status_code == 404
    hands.submit(client, hands.visit("NOWHERE"))
    assert outbox(app) == []


def test_lists_come_in_pages_newest_first(client: FlaskClient) -> None:
    made = [subscribe(client) for _ in range(5)]
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get(f"/api/webhooks?per_page=2&cursor={cursor}").json
        seen += [each["webhook_id"] for each in page["results"]]
        cursor = page["next"]
    assert seen == made[::-1]


def test_more_than_the_most_is_409_and_says_so(client: FlaskClient) -> None:
    made = [subscribe(client) for _ in range(webhooks.MOST_SUBSCRIPTIONS)]
    refused = client.post("/api/webhooks", json={"url": ELSEWHERE})
    assert (refused.status_code, refused.json) == (409, {"error": "there are 20 webhooks already: remove one first"})
    client.delete(f"/api/webhooks/{made[0]}")
    subscribe(client)


def test_a_repeated_request_makes_one_webhook_and_gets_its_secret(client: FlaskClient) -> None:
    def make(**more: Any) -> Any:
        return client.post("/api/webhooks", json={"url": ELSEWHERE} | more, headers={"Idempotency-Key": "hook-1"})

    first, second = make(), make()
    assert (first.status_code, second.status_code, first.json) == (201, 201, second.json)
    assert len(client.get("/api/webhooks").json["results"]) == 1
    other = make(description="another")
    assert other.status_code == 409
    assert other.json == {"error": "Idempotency-Key: used before with another body or address"}


@pytest.mark.parametrize("after", [False, True])
def test_a_webhook_whose_commit_is_cut_is_made_once(client: FlaskClient, cut_commit: Any, after: bool) -> None:
    cuts = cut_commit(after=after)
    made = client.post("/api/webhooks", json={"url": ELSEWHERE}, headers={"Idempotency-Key": "hook-1"})
    assert cuts and made.status_code == 201
    assert [row["webhook_id"] for row in client.get("/api/webhooks").json["results"]] == [made.json["webhook_id"]]


def test_a_rotated_secret_is_shown_once(client: FlaskClient) -> None:
    webhook = subscribe(client)
    rotate = f"/api/webhooks/{webhook}/rotate"
    first = client.post(rotate, headers={"Idempotency-Key": "r1"}).json["secret"]
    assert first != SECRET
    assert client.post(rotate, headers={"Idempotency-Key": "r1"}).json["secret"] == first
    assert client.post(rotate).json["secret"] != first


REFUSED = {
    "no url": ({}, "url: is missing"),
    "ftp": ({"url": "ftp://host/x"}, "url: not an http(s) URL"),
    "number": ({"url": 7}, "url: not an http(s) URL"),
    "loopback": (
        {"url": "http://127.0.0.1/"},
        "url: the address is private, local or special, and must not be reached",
    ),
    "metadata": ({"url": "http://169.254.169.254/"}, "url: the address is private"),
    "mapped": ({"url": "http://[::ffff:10.0.0.1]/"}, "url: the address is private"),
    "hex": ({"url": "http://0x7f.1/"}, "url: the address is private"),
    "odd host": ({"url": "http://a_b..c/"}, "url: the URL has a host that is not a domain name"),
    "event": ({"url": ELSEWHERE, "events": ["job.started"]}, "events[0]: Input should be 'job.completed'"),
    "no event": ({"url": ELSEWHERE, "events": []}, "events: is empty"),
    "secret": ({"url": ELSEWHERE, "secret": "hunter2"}, "secret: must be whsec_ and 24 to 64 bytes in base64"),
    "enabled": ({"url": ELSEWHERE, "enabled": "yes"}, "enabled: "),
}


@BACK_END
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_refused_with_the_field(make_app: Any, name: str) -> None:
    client = make_app(FETCH_ALLOWED_NETWORKS="").test_client()
    body, sentence = REFUSED[name]
    answer = client.post("/api/webhooks", json=body)
    assert answer.status_code == 400
    assert answer.json["error"].startswith(sentence)
    assert "hunter2" not in answer.text
    assert client.get("/api/webhooks").json["results"] == []


@BACK_END
@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://2130706433/", "https://[::1]/x", "file:///etc/passwd"])
def test_a_callback_inside_is_refused_with_the_job(make_app: Any, url: str) -> None:
    client = make_app(FETCH_ALLOWED_NETWORKS="").test_client()
    answer = client.post("/api/submit/", json=hands.body(callback_url=url))
    assert answer.status_code == 400
    assert answer.json["error"].startswith("callback_url: ")
    assert client.get("/api/jobs").json["results"] == []


def test_the_secret_of_a_callback_is_made_or_given(client: FlaskClient) -> None:
    given = client.post("/api/submit/", json=hands.body(callback_url=ELSEWHERE, callback_secret=SECRET))
    assert (given.status_code, list(given.json)) == (201, ["job_id"])
    headers = {"Idempotency-Key": "with-callback"}
    made = client.post("/api/submit/", json=hands.body(callback_url=ELSEWHERE), headers=headers)
    assert re.fullmatch(r"whsec_.{44}", made.json["callback_secret"])
    again = client.post("/api/submit/", json=hands.body(callback_url=ELSEWHERE), headers=headers)
    assert (again.status_code, again.json) == (201, made.json)
    assert "whsec_" not in client.get(f"/api/jobs/{made.json['job_id']}").text
    refused = client.post("/api/submit/", json=hands.body(callback_url=ELSEWHERE, callback_secret="x"))
    assert refused.json["error"].startswith("callback_secret: must be whsec_")


@pytest.mark.parametrize("number", ["0", "999999", "9" * 19, "9" * 40])
def test_unknown_ones_are_404(client: FlaskClient, number: str) -> None:
    calls = [client.get(f"/api/webhooks/{number}"), client.patch(f"/api/webhooks/{number}", json={})]
    calls += [client.delete(f"/api/webhooks/{number}"), client.get(f"/api/webhooks/{number}/deliveries")]
    calls += [client.post(f"/api/webhooks/{number}/{action}") for action in ("test", "rotate")]
    assert {(answer.status_code, answer.json["error"]) for answer in calls} == {(404, "no such webhook")}
    calls = [client.get(f"/api/deliveries/{number}"), client.post(f"/api/deliveries/{number}/redeliver")]
    assert {(answer.status_code, answer.json["error"]) for answer in calls} == {(404, "no such delivery")}


def test_somebody_elses_is_as_if_it_were_not_there(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = (Caller(owner, frozenset({Scope.SUBMIT, Scope.READ})) for owner in (7, 8))
    with monkeypatch.context() as as_us:
        as_us.setattr(auth.access, "SERVICE", ours)
        webhook = subscribe(client)
        job = hands.submit(client, hands.visit("NOWHERE"), callback_url=ELSEWHERE)
        delivery = client.get(f"/api/webhooks/{webhook}/deliveries").json["results"][0]["delivery_id"]
    monkeypatch.setattr(auth.access, "SERVICE", theirs)

    def ask(webhook: int, delivery: int) -> list[Any]:
        address = f"/api/webhooks/{webhook}"
        answers = [client.get(address), client.patch(address, json={}), client.delete(address)]
        answers += [
            client.get(f"{address}/deliveries"),
            client.post(f"{address}/rotate"),
            client.post(f"{address}/test"),
        ]
        answers += [client.get(f"/api/deliveries/{delivery}"), client.post(f"/api/deliveries/{delivery}/redeliver")]
        return [(answer.status_code, answer.json) for answer in answers]

    assert ask(webhook, delivery) == ask(999_999, 999_999)
    assert client.get("/api/webhooks").json["results"] == []
    assert client.get(f"/api/webhooks?job_id={job}").json["results"] == []
