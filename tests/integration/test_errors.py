"""Every error is JSON, and every answer carries the headers that browsers heed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from app.domain import statuses
from app.errors import UnavailableError


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/api//status?jobid=1", 404),
        ("GET", "/api/jobs/x", 404),
        ("GET", "/docs/static/nope.js", 404),
        ("GET", "/docs/static/../../secret", 404),
        ("POST", "/api/status", 405),
        ("DELETE", "/api/submit/", 405),
        ("GET", "/api/submit", 405),
        ("POST", "/api/status/", 405),
        ("PUT", "/", 405),
    ],
)
def test_routing_errors_are_json(client: FlaskClient, method: str, path: str, status: int) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == status
    assert answer.mimetype == "application/json"
    assert list(answer.json) == ["error"]
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("the secret is 42"), 500),
        (KeyError("x"), 500),
        (UnavailableError("the database does not answer"), 503),
        (OperationalError("SELECT secret", {}, Exception("down")), 503),
        (PoolTimeoutError("pool"), 503),
        (UnsupportedMediaType(), 415),
        (BadRequest("odd"), 400),
    ],
)
def test_what_escapes_is_json_and_tells_no_secrets(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fail(job_id: int) -> Any:
        raise error

    monkeypatch.setattr(statuses, "get", fail)
    answer = client.get("/api/status?jobid=1")
    assert answer.status_code == status
    assert list(answer.json) == ["error"]
    assert "secret" not in answer.text
    assert ("Retry-After" in answer.headers) == (status == 503)


def test_an_unexpected_error_is_logged_with_its_traceback(
    capfd: pytest.CaptureFixture[str], make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job_id: int) -> Any:
        raise RuntimeError("odd\n2026-01-01T00:00:00Z INFO forged")

    monkeypatch.setattr(statuses, "get", fail)
    make_app().test_client().get("/api/status?jobid=1", headers={"X-Request-ID": "req-1"})
    lines = capfd.readouterr().err.splitlines()
    events = [line for line in lines if not line.startswith("    | ")]
    assert len(events) == 2
    assert "request failed" in events[0] and "request_id=req-1" in events[0]
    assert any("RuntimeError: odd" in line for line in lines)


@pytest.mark.parametrize("path", ["/", "/api/jobs", "/nope", "/docs", "/openapi.json", "/live"])
def test_every_answer_carries_the_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", ["/api/jobs", "/api/status?jobid=0", "/live", "/docs", "/openapi.json"])
def test_both_slash_forms_answer_alike(client: FlaskClient, path: str) -> None:
    name, _, query = path.partition("?")
    one, other = client.get(f"{name}?{query}"), client.get(f"{name}/?{query}")
    assert (one.status_code, one.data) == (other.status_code, other.data)
