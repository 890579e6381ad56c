"""GET /, /health, /live, the log, and what the service does while its servers are away."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade

from app import create_app, queues
from app.web import manifests as web_manifests
from config import Settings
from testbed.mariadb import MariaDB
from testbed.redis import Redis
from tests.integration import hands


def test_the_root_names_the_service_and_its_routes(client: FlaskClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.json["service"] == "imagejobs"
    assert {"/api/submit/", "/api/status", "/api/visits", "/health", "/docs"} <= set(answer.json["routes"])


def test_a_browser_is_led_to_the_dashboard(client: FlaskClient) -> None:
    answer = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}, follow_redirects=True)
    assert answer.request.path.startswith("/dashboard")
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"


@pytest.mark.parametrize("path", ["/health", "/health/"])
def test_health_is_ok(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_a_bell_is_rung_for_a_new_job_only(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)

    with queues._connection().channel() as channel:
        channel.queue_purge(queues.IMAGES)
    client.post("/api/submit/", json=hands.body(hands.visit(images=25)), headers={"Idempotency-Key": "k"})
    assert unheard() == 3
    client.post("/api/submit/", json=hands.body(hands.visit(images=25)), headers={"Idempotency-Key": "k"})
    hands.submit(client, hands.visit("NOWHERE"))
    assert unheard() == 3


@pytest.fixture
def service(tmp_path: Path) -> Callable[..., Flask]:
    """A service on servers of its own."""

    def make(**changes: str) -> Flask:
        options = {"DATABASE_URL": f"sqlite:///{tmp_path}/test.db", "REDIS_URL": "redis://127.0.0.1:1/0"} | changes
        app = create_app(Settings.from_env({}, DATA_DIR=tmp_path, **options))
        with app.app_context():
            upgrade()
        hands.add_stores(app)
        return app

    return make


def unheard() -> int:
    with queues._connection().channel() as channel:
        return channel.queue_declare(queue=queues.IMAGES, durable=True).message_count


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_broker_that_is_down_delays_nothing(service: Callable[..., Flask], fault: str) -> None:
    with Redis() as server:
        client = service(REDIS_URL=server.url).test_client()
        hands.submit(client)
        getattr(server, fault)()
        for _ in range(3):
            start = time.monotonic()
            job = hands.submit(client)
            assert time.monotonic() - start < 2
        start = time.monotonic()
        answer = client.get("/health")
        assert time.monotonic() - start < 2
        assert (answer.status_code, answer.json) == (200, {"status": "degraded", "broker": "down"})
        assert client.get(f"/api/status?jobid={job}").json["status"] == "ongoing"
        server.thaw() if fault == "freeze" else server.start()
        server.flush()
        hands.submit(client)
        assert unheard() == 1
        assert client.get("/health").json == {"status": "ok"}


def test_many_submits_at_once_while_the_broker_hangs(service: Callable[..., Flask]) -> None:
    with Redis() as server:
        app = service(REDIS_URL=server.url)
        hands.submit(app.test_client())
        server.freeze()
        took: list[float] = []

        def submit() -> None:
            start = time.monotonic()
            hands.submit(app.test_client())
            took.append(time.monotonic() - start)

        threads = [threading.Thread(target=submit) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(took) == 30
        assert max(took) < 5
        server.thaw()


def test_a_database_that_is_down_is_503_and_comes_back(service: Callable[..., Flask]) -> None:
    with MariaDB() as server:
        client = service(DATABASE_URL=server.create_database("away")).test_client()
        job = hands.submit(client)
        server.kill()
        for answer in (
            client.get("/health"),
            client.get(f"/api/status?jobid={job}"),
            client.get("/api/visits?area=1"),
            client.get("/image_batches?page=1&per_page=100"),  # which is streamed
            client.post("/api/submit/", json=hands.body()),
        ):
            assert answer.status_code == 503
            assert answer.json == {"error": "the database does not answer"}
            assert int(answer.headers["Retry-After"]) > 0
        assert client.get("/live").json == {"status": "ok"}
        server.start()
        assert client.get(f"/api/status?jobid={job}").json["status"] == "ongoing"
        assert client.post("/api/submit/", json=hands.body()).status_code == 201


def test_who_waits_for_a_manifest_waits_for_the_database_too(
    service: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_manifests, "SILENCE_SECONDS", 0)  # each look that finds nothing is told
    with MariaDB() as server:
        app = service(DATABASE_URL=server.create_database("away"))
        file = {"file": (io.BytesIO(b"id\turl\na\thttp://h/0\n"), "images.tsv")}
        pieces = iter(app.test_client().post("/api/v1/images_info/", data=file).response)
        assert next(pieces) == b"\n"
        server.kill()
        assert next(pieces) == b"\n"
        server.start()
        hands.work_off(app)
        assert list(json.loads(b"".join(pieces))) == ["a"]


def test_request_ids_come_back_unless_they_are_odd(client: FlaskClient) -> None:
    assert client.get("/live", headers={"X-Request-ID": "abc-1.2_3"}).headers["X-Request-ID"] == "abc-1.2_3"
    for odd in ("", "a b", "x" * 65, "é"):
        given = client.get("/live", headers={"X-Request-ID": odd}).headers["X-Request-ID"]
        assert given != odd
        assert len(given) == 32


def test_no_log_line_can_be_forged(capfd: pytest.CaptureFixture[str], make_app: Callable[..., Flask]) -> None:
    make_app().test_client().get("/x%0d%0a2026-01-01T00:00:00Z INFO forged%1b[31m%e2%80%a8")
    logged = capfd.readouterr().err
    assert "forged" in logged
    assert logged.count("\n") == 1
    assert not set(logged) & {"\r", "\x1b", "\u2028"}


def test_logs_as_json_hide_passwords(capfd: pytest.CaptureFixture[str], make_app: Callable[..., Flask]) -> None:
    make_app(LOG_FORMAT="json")
    structlog.get_logger().warning("bell not rung", reason="redis://user:hunter2@host:6379 refused")
    event = json.loads(capfd.readouterr().err)
    assert event["event"] == "bell not rung"
    assert event["level"] == "warning"
    assert event["reason"] == "redis://user:***@host:6379 refused"
