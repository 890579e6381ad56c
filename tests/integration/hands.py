"""What these tests do by hand: bodies, stores, and images settled without a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import exists, insert, select

from app.domain import audit, claims, lifecycle, transactions
from app.domain.lifecycle import Outcome, Settlement
from app.domain.works import Claim, Room, Work
from app.extensions import db
from app.models import Chunk, Image, ImageState, Job, Store, Visit
from app.sql import db_now

STORES = {
    "S00339218": ("710006", "BHARAT STORE"),
    "S01408764": ("710006", "Kaveri Kirana"),
    "S02000001": ("710009", "Müller, Söhne & Cie"),
}
MOMENT = datetime(2020, 1, 1)


def add_stores(app: Flask, stores: dict[str, tuple[str, str]] = STORES) -> None:
    rows = [
        {"id": key, "area": area, "name": name, "created_at": MOMENT, "updated_at": MOMENT}
        for key, (area, name) in stores.items()
    ]
    with app.app_context():
        transactions.run(lambda session: session.connection().execute(insert(Store.__table__), rows))


def visit(store: str = "S00339218", images: int | Sequence[str] = 1, time: object = "2020-09-02T00:00:53Z") -> Any:
    urls = [f"https://host/{store}/{n}.jpg" for n in range(images)] if isinstance(images, int) else list(images)
    return {"store_id": store, "image_url": urls, "visit_time": time}


def body(*visits: Any, **more: Any) -> dict[str, Any]:
    found = list(visits) or [visit()]
    return {"count": len(found), "visits": found} | more


def submit(client: FlaskClient, *visits: Any, **more: Any) -> int:
    answer = client.post("/api/submit/", json=body(*visits, **more))
    assert answer.status_code == 201, answer.text
    return answer.json["job_id"]


def done(work: Work, *, seconds: float = 0.25) -> Outcome:
    return Outcome(
        work, ImageState.DONE, seconds=seconds, width=300, height=200, perimeter=1000, format="JPEG", bytes=20_000
    )


def failed(work: Work, code: str = "http_404", message: str = "the server answered 404 Not Found") -> Outcome:
    return Outcome(work, ImageState.FAILED, seconds=0.1, error_code=code, error_message=message)


def again(work: Work, delay_seconds: float, code: str = "timeout") -> Outcome:
    """Failed, and to be tried again after the delay."""
    return Outcome(work, ImageState.OPEN, error_code=code, error_message="slow", delay_seconds=delay_seconds)


def claim(images: int = 1000, worker: str = "w1") -> list[Claim]:
    return claims.claim(worker, Room(images, images), lease_seconds=60) or []


def settle(claimed: Sequence[Claim], outcome: Callable[[Work], Outcome] = done) -> Settlement:
    outcomes = [outcome(work) for each in claimed for work in each.work]
    return lifecycle.settle(outcomes, [(each.key, each.token) for each in claimed])


def work_off(app: Flask, outcome: Callable[[Work], Outcome] = done) -> int:
    """Settle whatever is due; returns how many outcomes counted."""
    counted = 0
    with app.app_context():
        while claimed := claim():
            counted += settle(claimed, outcome).counted
    return counted


def expect_books_balanced(app: Flask) -> None:
    """``imagejobs audit`` finds nothing, and no chunk is due that has nothing to do."""
    with app.app_context():
        assert audit.run().findings == ()
        is_open = exists().where(
            Image.job_id == Chunk.job_id,
            Image.seq.between(Chunk.first_image, Chunk.first_image + Chunk.images - 1),
            Image.state == ImageState.OPEN,
        )
        [*visits] = transactions.read(lambda session: session.scalars(select(Visit)).all())
        assert all((visit.error_code is None) == (visit.images_failed == 0) for visit in visits)
        idle = select(Chunk.job_id, Chunk.seq).where(Chunk.due_at.is_not(None), ~is_open)
        assert transactions.read(lambda session: session.execute(idle).all()) == []


def make_due(app: Flask) -> None:
    """As if all leases and waits had run out."""
    with app.app_context():
        transactions.run(
            lambda session: [
                session.execute(db.update(Chunk).where(Chunk.due_at.is_not(None)).values(due_at=db_now())),
                session.execute(db.update(Image).where(Image.state == "open").values(next_attempt_at=None)),
                session.execute(db.update(Job).values(parked_until=None)),
            ]
        )
