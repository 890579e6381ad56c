"""For the tests of results of whole jobs, whatever form they come in."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from werkzeug.test import TestResponse

from app.domain import results, transactions
from app.errors import UnavailableError
from app.models import Image
from tests.integration import hands


def make_job(app: Flask, client: FlaskClient) -> int:
    """Three images of two known stores, one of which failed, and one of an unknown store."""
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=2), hands.visit("S02000001"), hands.visit("NOWHERE"))
    hands.work_off(app, lambda work: hands.failed(work) if work.seq == 1 else hands.done(work))
    return job


def set_results(app: Flask, job: int, found: dict[int, dict[str, Any]]) -> None:
    def work(session: Any) -> None:
        for seq, value in found.items():
            session.execute(update(Image).where(Image.job_id == job, Image.seq == seq).values(results=value))

    with app.app_context():
        transactions.run(work)


def note_pages(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that grows by one with each page that is read."""
    pages: list[Any] = []
    read_page = results._page
    monkeypatch.setattr(results, "_page", lambda *args, **more: pages.append(more) or read_page(*args, **more))
    return pages


def expect_broken_off(answer: TestResponse, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database goes away under an answer that has begun: it must not end as if that were all."""

    def away(_work: Any) -> None:
        raise UnavailableError("the database does not answer")

    monkeypatch.setattr(transactions, "read", away)
    with pytest.raises(UnavailableError):
        b"".join(answer.response)
