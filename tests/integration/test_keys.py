"""API keys: who comes in with one, what it may do, and how it is made, replaced and ended."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask, request
from flask.testing import FlaskClient
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from app.cli import main
from app.domain import keys, transactions
from app.domain.access import Scope
from app.domain.keys import NewKey
from app.models import ApiKey
from app.web import auth, sessions
from tests.conftest import Backend
from tests.integration import hands


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(AUTH="keys")


@pytest.fixture
def make_key(app: Flask) -> Callable[..., str]:
    def make(*scopes: str, **more: Any) -> str:
        with app.app_context():
            return keys.create(NewKey(scopes=frozenset(map(Scope, scopes)), **more)).text or ""

    return make


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if REMEMBERED_SECONDS were over before every request."""
    monkeypatch.setattr(keys, "REMEMBERED_SECONDS", -1.0)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def status_of(client: FlaskClient, headers: dict[str, str]) -> tuple[int, str | None]:
    answer = client.get("/api/jobs", headers=headers)
    return answer.status_code, answer.json.get("error")


def change(app: Flask, **values: Any) -> None:
    with app.app_context():
        transactions.run(lambda session: session.execute(update(ApiKey).values(**values)))


def stored(app: Flask) -> list[ApiKey]:
    with app.app_context():
        return list(transactions.read(lambda session: session.scalars(select(ApiKey).order_by(ApiKey.id)).all()))


def test_without_a_key_it_is_401_in_json(client: FlaskClient) -> None:
    for answer in (client.get("/api/jobs"), client.post("/api/submit/", json=hands.body()), client.get("/api/keys")):
        assert answer.status_code == 401
        assert answer.json == {"error": "an API key is needed: send it as Authorization: Bearer KEY"}
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="imagejobs"'


def test_what_needs_no_key(client: FlaskClient) -> None:
    for path in ("/", "/health", "/live", "/docs", "/openapi.json"):
        assert client.get(path, headers=bearer("nonsense")).status_code == 200
    assert client.get("/no/such/address").status_code == 404


def test_a_key_is_taken_in_each_way_that_clients_send_one(client: FlaskClient, make_key: Callable[..., str]) -> None:
    key = make_key("read")
    for headers in (
        bearer(key),
        {"Authorization": f"bearer  {key} "},
        {"X-API-Key": key},
        basic(key, ""),
        basic("anybody", key),
    ):
        assert status_of(client, headers) == (200, None)


@pytest.mark.parametrize("sent", ["", "x", "ij_", "ij_aaaaaaaa_" + 43 * "a", "é" * 20, "a" * 5000, "ij_aaaaaaaa\x00"])
def test_a_key_that_is_none_is_refused(client: FlaskClient, sent: str) -> None:
    code = base64.b64encode(f"{sent}:".encode()).decode()
    assert status_of(client, {"Authorization": f"Basic {code}"}) == (401, "this key is not valid")


def test_another_secret_behind_a_known_prefix_is_refused(client: FlaskClient, make_key: Callable[..., str]) -> None:
    key = make_key("admin")
    other = key[:-1] + ("a" if key[-1] != "a" else "b")
    assert status_of(client, bearer(key))[0] == 200
    assert status_of(client, bearer(other)) == (401, "this key is not valid")
    assert status_of(client, bearer(key.upper())) == (401, "this key is not valid")
    assert status_of(client, {"Authorization": f"Digest {key}"})[0] == 401


def test_each_scope_opens_what_is_its_own(app: Flask, client: FlaskClient, make_key: Callable[..., str]) -> None:
    hands.add_stores(app)

    def may(key: str) -> dict[str, bool]:
        answers = {
            "submit": client.post("/api/submit/", json=hands.body(), headers=bearer(key)),
            "read": client.get("/api/jobs", headers=bearer(key)),
            "admin": client.get("/api/keys", headers=bearer(key)),
        }
        for scope, answer in answers.items():
            if answer.status_code == 403:
                assert answer.json == {"error": f"this key may not do that: it lacks the scope {scope}"}
        return {scope: answer.status_code != 403 for scope, answer in answers.items()}

    assert may(make_key("submit")) == {"submit": True, "read": False, "admin": False}
    assert may(make_key("read")) == {"submit": False, "read": True, "admin": False}
    assert may(make_key("submit", "read")) == {"submit": True, "read": True, "admin": False}
    assert may(make_key("admin")) == {"submit": True, "read": True, "admin": True}


def test_a_key_is_shown_once_and_its_secret_is_nowhere(
    app: Flask, client: FlaskClient, make_key: Callable[..., str]
) -> None:
    admin = bearer(make_key("admin"))
    answer = client.post("/api/keys", json={"label": "till", "scopes": ["read"], "days": 30}, headers=admin)
    assert answer.status_code == 201
    made = answer.json
    key = made.pop("key")
    assert keys.KEY.fullmatch(key)
    assert made["prefix"] == key[:11]
    assert (made["label"], made["scopes"], made["owner"]) == ("till", ["read"], made["id"])
    assert (made["revoked_at"], made["last_used_at"]) == (None, None)
    assert client.get(answer.headers["Location"], headers=admin).json == made
    assert [row["id"] for row in client.get("/api/keys", headers=admin).json["results"]] == [
        made["id"],
        stored(app)[0].id,
    ]
    assert status_of(client, bearer(key))[0] == 200
    secret = key[12:]
    assert secret not in client.get("/api/keys", headers=admin).text
    assert secret not in json.dumps(
        [{c.name: str(getattr(row, c.name)) for c in ApiKey.__table__.c} for row in stored(app)]
    )


def test_no_log_line_holds_a_key(capfd: pytest.CaptureFixture[str], make_app: Callable[..., Flask]) -> None:
    app = make_app(AUTH="keys")
    with app.app_context():
        made = keys.create(NewKey())
    text = str(made.text)
    client = app.test_client()
    for headers in (bearer(text), bearer(text[:-1]), basic(text, "")):
        client.get(f"/api/jobs?key={text}", headers=headers)
        client.get(f"/{text}", headers=headers)
    logged = capfd.readouterr().err
    assert f"key_id={made.key.id}" in logged
    assert text[:11] in logged
    assert text[12:20] not in logged


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["write"]}, "scopes[0]"),
        ({"label": "x" * 101}, "label"),
        ({"label": "a\nb"}, "label"),
        ({"days": 0}, "days"),
        ({"same_owner_as": "nobody"}, "same_owner_as"),
        ({"same_owner_as": "9" * 30}, "same_owner_as"),
    ],
)
def test_a_key_that_cannot_be_made_says_why(
    client: FlaskClient, make_key: Callable[..., str], body: Any, field: str
) -> None:
    answer = client.post("/api/keys", json=body, headers=bearer(make_key("admin")))
    assert answer.status_code == 400
    assert answer.json["error"].startswith(f"{field}: ")


def test_the_same_request_makes_one_key_and_shows_it_once(client: FlaskClient, make_key: Callable[..., str]) -> None:
    headers = bearer(make_key("admin")) | {"Idempotency-Key": "till-7"}
    first = client.post("/api/keys", json={"label": "till"}, headers=headers)
    again = client.post("/api/keys", json={"label": "till"}, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.json["key"]
    assert again.json == first.json | {"key": None}
    other = client.post("/api/keys", json={"label": "other"}, headers=headers)
    assert other.status_code == 409
    assert other.json == {"error": "Idempotency-Key: used before with another body or address"}


@pytest.mark.parametrize("after", [False, True])
def test_a_lost_commit_makes_one_key(app: Flask, cut_commit: Any, after: bool) -> None:
    with app.app_context():
        cuts = cut_commit(after=after)
        made = keys.create(NewKey("till"))
        assert cuts
        assert keys.verify(made.text or "").key_id == made.key.id
    assert len(stored(app)) == 1


def test_a_revoked_key_is_refused_and_its_jobs_stay(
    app: Flask, client: FlaskClient, make_key: Callable[..., str]
) -> None:
    hands.add_stores(app)
    admin, key = bearer(make_key("admin")), make_key("submit", "read")
    job = client.post("/api/submit/", json=hands.body(), headers=bearer(key)).json["job_id"]
    address = f"/api/keys/{stored(app)[-1].id}/revoke"
    revoked = client.post(address, headers=admin)
    assert revoked.status_code == 200
    assert revoked.json["revoked_at"]
    assert status_of(client, bearer(key)) == (401, "this key was revoked")
    assert client.post(address, headers=admin).json == revoked.json
    assert client.get(f"/api/jobs/{job}", headers=admin).status_code == 200
    assert client.post("/api/keys/999999/revoke", headers=admin).status_code == 404


def test_another_process_takes_a_revoked_key_no_longer_than_it_remembers(
    app: Flask, make_app: Callable[..., Flask], make_key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key("read")
    other = make_app(AUTH="keys").test_client()
    assert status_of(other, bearer(key))[0] == 200
    with app.app_context():
        keys.revoke(key[:11])
    now = keys.time.monotonic()
    monkeypatch.setattr(keys.time, "monotonic", lambda: now + keys.REMEMBERED_SECONDS + 1)
    assert status_of(other, bearer(key)) == (401, "this key was revoked")


def test_a_key_ends_when_it_expires(
    app: Flask, client: FlaskClient, make_key: Callable[..., str], forgetful: None
) -> None:
    key = make_key("read", days=2)
    [row] = stored(app)
    assert row.expires_at - row.created_at == timedelta(days=2) or row.expires_at > row.created_at
    assert status_of(client, bearer(key))[0] == 200
    change(app, expires_at=row.created_at)
    assert status_of(client, bearer(key)) == (401, "this key has expired")


def test_use_is_noted_and_not_at_every_request(
    app: Flask, client: FlaskClient, make_key: Callable[..., str], forgetful: None
) -> None:
    key = make_key("read")
    assert stored(app)[0].last_used_at is None
    status_of(client, bearer(key))
    first = stored(app)[0].last_used_at
    assert first is not None
    for _ in range(3):
        status_of(client, bearer(key))
    assert stored(app)[0].last_used_at == first
    change(app, last_used_at=first - timedelta(seconds=61))
    status_of(client, bearer(key))
    assert stored(app)[0].last_used_at >= first


def test_a_key_for_the_same_owner_takes_over_its_jobs(
    app: Flask, client: FlaskClient, make_key: Callable[..., str]
) -> None:
    hands.add_stores(app)
    old = make_key("submit", "read")
    job = client.post("/api/submit/", json=hands.body(), headers=bearer(old)).json["job_id"]
    new = make_key("submit", "read", same_owner_as=old[:11])
    third = make_key("read", same_owner_as=str(stored(app)[-1].id))
    stranger = make_key("submit", "read")
    with app.app_context():
        keys.revoke(old[:11])
    for key, seen in ((new, 200), (third, 200), (stranger, 404)):
        assert client.get(f"/api/jobs/{job}", headers=bearer(key)).status_code == seen
    assert client.post(f"/api/jobs/{job}/cancel", headers=bearer(stranger)).status_code == 404
    assert client.post(f"/api/jobs/{job}/cancel", headers=bearer(new)).status_code == 200


def test_a_session_lasts_as_long_as_its_key(app: Flask, make_key: Callable[..., str], forgetful: None) -> None:
    @app.post("/log-in")
    @auth.public
    def log_in() -> str:
        return auth.log_in(request.form["key"]).label

    @app.post("/log-out")
    def log_out() -> str:
        auth.log_out()
        return ""

    key = make_key("submit", "read", label="Asha")
    browser = app.test_client()
    assert browser.post("/log-in", data={"key": key[:-2] + "xx"}).status_code == 401
    assert status_of(browser, {})[0] == 401
    answer = browser.post("/log-in", data={"key": key}, base_url="https://localhost")
    assert answer.text == "Asha"
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{sessions.COOKIE}=")
    assert {"HttpOnly", "SameSite=Lax", "Secure"} <= {part.strip() for part in cookie.split(";")}
    assert key not in cookie

    assert "Secure" not in browser.post("/log-in", data={"key": key}).headers["Set-Cookie"]
    assert status_of(browser, {})[0] == 200
    assert status_of(browser, bearer("wrong"))[0] == 401
    assert browser.get("/api/keys").status_code == 403
    browser.post("/log-out")
    assert status_of(browser, {})[0] == 401
    browser.post("/log-in", data={"key": key})
    with app.app_context():
        keys.revoke(key[:11])
    assert status_of(browser, {}) == (401, "this key was revoked")


def test_the_first_key_is_made_by_the_command(app: Flask, client: FlaskClient, backend: Backend) -> None:
    environment = {"DATABASE_URL": backend.database_url, "AUTH": "keys", "DATA_DIR": str(backend.data_dir)}

    def command(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["keys", *arguments], env=environment)

    made = command("create", "--scope", "admin", "--label", "Asha", "--days", "9")
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    assert "not shown again" in made.stderr
    assert client.get("/api/keys", headers=bearer(key)).status_code == 200
    again = command("create", "--same-owner-as", key[:11])
    assert again.exit_code == 0, again.output
    second = again.stdout.strip()
    number = stored(app)[0].id
    assert client.get("/api/jobs", headers=bearer(second)).status_code == 200
    rows = json.loads(command("list", "--json").stdout)
    assert [(row["scopes"], row["owner"], row["label"]) for row in rows] == [
        (["read", "submit"], number, ""),
        (["admin"], number, "Asha"),
    ]
    assert key[:11] in command("list").stdout
    assert command("revoke", str(number)).stdout == f"key {number} ({key[:11]} Asha) is revoked\n"
    assert command("revoke", "nothing").exit_code == 2
    assert command("create", "--same-owner-as", "nothing").exit_code == 2
    with app.app_context():
        keys._remembered().clear()
    assert client.get("/api/keys", headers=bearer(key)).status_code == 401


def test_fifty_threads_with_one_name_make_one_key_and_one_job(
    app: Flask, client: FlaskClient, make_key: Callable[..., str]
) -> None:
    hands.add_stores(app)
    headers = bearer(make_key("admin")) | {"Idempotency-Key": "till-7"}
    jobs = bearer(make_key("submit")) | {"Idempotency-Key": "till-7"}
    answers: list[tuple[TestResponse, TestResponse]] = []
    together = threading.Barrier(50)

    def send() -> None:
        mine = app.test_client()
        together.wait()
        made = mine.post("/api/keys", json={"label": "till"}, headers=headers)
        answers.append((made, mine.post("/api/submit/", json=hands.body(), headers=jobs)))

    threads = [threading.Thread(target=send) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for both in answers for answer in both} == {201}
    assert len({made.json["id"] for made, _ in answers}) == len({job.json["job_id"] for _, job in answers}) == 1
    assert len([made for made, _ in answers if made.json["key"]]) == 1
    assert len(stored(app)) == 3
