"""What tests of webhooks do by hand: subscribe, send what is due, check a signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from app.domain import sender, transactions
from app.models import Delivery
from app.sql import db_now
from testbed.processes import wait_for
from testbed.receiver import Message

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
ALL_EVENTS = ["job.completed", "job.failed", "visit.settled"]
ELSEWHERE = "https://hooks.example/in"


def subscribe(client: FlaskClient, url: str = ELSEWHERE, **fields: Any) -> int:
    answer = client.post("/api/webhooks", json={"url": url, "events": ALL_EVENTS, "secret": SECRET} | fields)
    assert answer.status_code == 201, answer.text
    return answer.json["webhook_id"]


def outbox(app: Flask) -> list[Delivery]:
    """All deliveries, in the order in which they were written."""
    with app.app_context():
        query = select(Delivery).order_by(Delivery.id)
        return list(transactions.read(lambda session: session.scalars(query).all()))


def told(app: Flask) -> list[tuple[str, int, int | None, int]]:
    """Of each delivery: event, job, visit, version."""
    return [(row.event, row.job_id, row.visit_seq, row.version) for row in outbox(app)]


@contextmanager
def sending(app: Flask) -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """A sender at work in this process; gives a function that waits for something."""
    stop = threading.Event()

    def run() -> None:
        with app.app_context():
            sender.run(stop)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda condition: wait_for(condition, 30)
    finally:
        stop.set()
        thread.join()


def send_all(app: Flask) -> list[Delivery]:
    """Send until nothing is due any more; returns all deliveries."""
    with sending(app) as wait:
        wait(lambda: all(row.due_at is None for row in outbox(app)))
    return outbox(app)


def make_due(app: Flask) -> None:
    """As if all waits and leases had run out."""
    with app.app_context():
        due = update(Delivery).where(Delivery.due_at.is_not(None)).values(due_at=db_now())
        transactions.run(lambda session: session.execute(due))


def is_signed(message: Message, secret: str = SECRET) -> bool:
    """Computed here anew, from the words of the specification."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message.id}.{message.headers['webhook-timestamp']}.".encode() + message.body
    wanted = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in message.headers["webhook-signature"].split(" ")
