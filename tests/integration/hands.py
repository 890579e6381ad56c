"""What these tests do by hand: bodies, stores, and images settled without a worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import insert, select

from app.domain import claims, lifecycle, transactions
from app.domain.claims import Claim, Work
from app.domain.lifecycle import Outcome, Settlement
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


def claim(images: int = 1000, worker: str = "w1") -> list[Claim]:
    return claims.claim(worker, images=images, lease_seconds=60) or []


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
    """The counters of every job and visit are what its images say, and no chunk of a finished job is due."""
    with app.app_context():
        transactions.read(_expect_books_balanced)


def _expect_books_balanced(session: Any) -> None:
    of_job: dict[int, list[Image]] = defaultdict(list)
    of_visit: dict[tuple[int, int | None], list[Image]] = defaultdict(list)
    for image in session.scalars(select(Image).order_by(Image.job_id, Image.seq)):
        of_job[image.job_id].append(image)
        of_visit[image.job_id, image.visit_seq].append(image)
    for job in session.scalars(select(Job)):
        states = [image.state for image in of_job[job.id]]
        counted = [states.count(state) for state in ImageState]
        assert [job.images_open, job.images_done, job.images_failed, job.images_cancelled] == counted
        assert job.images_total == len(states)
        assert (job.finished_at is None) == (job.images_open > 0) == (job.state == "ongoing")
    for one in session.scalars(select(Visit)):
        mine = of_visit[one.job_id, one.seq]
        assert one.images_total == len(mine)
        assert one.images_open == sum(image.state == "open" for image in mine)
        assert one.images_failed == sum(image.state == "failed" for image in mine)
        assert one.perimeter == sum(image.perimeter or 0 for image in mine)
        assert (one.state == "open") == (one.images_open > 0) == (one.settled_at is None)
    for chunk in session.scalars(select(Chunk)):
        images = of_job[chunk.job_id][chunk.first_image : chunk.first_image + chunk.images]
        assert any(image.state == "open" for image in images) == (chunk.due_at is not None)


def make_due(app: Flask) -> None:
    """As if all leases and waits had run out."""
    with app.app_context():
        transactions.run(
            lambda session: [
                session.execute(db.update(Chunk).where(Chunk.due_at.is_not(None)).values(due_at=db_now())),
                session.execute(db.update(Image).where(Image.state == "open").values(next_attempt_at=None)),
            ]
        )
