"""The audit over what was, and is to be, sent to receivers."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.integration.hands import add_stores, submit, visit, work_off
from tests.integration.receivers import subscribe
from tests.integration.test_audit import codes, spoil


@pytest.fixture
def told(app: Flask, client: FlaskClient) -> int:
    """A job that has ended, of which its callback and a subscription are told."""
    add_stores(app)
    webhook = subscribe(client)
    client.post(f"/api/webhooks/{webhook}/test")
    client.post(f"/api/webhooks/{webhook}/test")
    job = submit(client, visit(images=3), visit("S_UNKNOWN"), callback_url="https://hooks.example/")
    work_off(app)
    return job


def test_books_with_messages_balance(app: Flask, client: FlaskClient, told: int) -> None:
    assert codes(app) == set()
    client.post(f"/api/jobs/{told}/retry")
    work_off(app)
    assert codes(app) == set()


COPY = (
    "INSERT INTO deliveries (webhook_id, host, job_id, visit_seq, event, version, data, state, attempts,"
    " attempts_before, due_at, created_at) SELECT webhook_id, host, job_id, visit_seq, event, version, data, state,"
    " attempts, attempts_before, due_at, created_at FROM deliveries WHERE job_id = :job"
)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (COPY, "message_doubled"),
        ("UPDATE deliveries SET due_at = NULL WHERE job_id = :job", "message_stray"),
        ("UPDATE deliveries SET state = 'delivered' WHERE job_id = :job", "message_stray"),
        ("DELETE FROM deliveries WHERE job_id = :job AND event = 'job.failed'", "callback_missing"),
        ("UPDATE jobs SET version = version + 1 WHERE id = :job", "callback_missing"),
    ],
)
def test_each_fault_is_found(app: Flask, told: int, statement: str, expected: str) -> None:
    spoil(app, statement, told)
    assert codes(app) == {expected}


def test_a_callback_that_was_disabled_or_changed_misses_nothing(app: Flask, client: FlaskClient, told: int) -> None:
    [callback] = client.get(f"/api/webhooks?job_id={told}").json["results"]
    client.patch(callback["links"]["self"], json={"enabled": False})
    spoil(app, "DELETE FROM deliveries WHERE job_id = :job", told)
    assert codes(app) == set()
