"""Jobs whose images belong to no visit, as every door but the first creates them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from app.domain import jobs, statuses, transactions
from app.domain.jobs import NewImage, NewJob
from app.domain.outcomes import Outcome
from app.domain.works import Wanted, Work
from app.errors import InvalidRequestError, TooManyImagesError
from app.models import Image, ImageState, JobSource
from tests.integration import hands

MEASURES: dict[str, Any] = {"width": 30, "height": 20, "perimeter": 100, "format": "PNG", "bytes": 90, "seconds": 0.1}


def create(app: Flask, images: Sequence[NewImage], source: JobSource = JobSource.BATCHES, **more: Any) -> int:
    with app.app_context():
        return jobs.create(NewJob(source, images=images, **more)).job_id


def by_url(images: int) -> list[NewImage]:
    return [NewImage(url=f"https://host/{number}.jpg", client_ref=str(number)) for number in range(images)]


def test_job_closes_by_its_own_count_of_images(app: Flask, client: FlaskClient) -> None:
    job_id = create(app, by_url(25))
    found = client.get(f"/api/status?jobid={job_id}").json
    assert (found["status"], found["visits"], found["source"], found["images"]["open"]) == ("ongoing", 0, "batches", 25)
    assert hands.work_off(app) == 25
    found = client.get(f"/api/status?jobid={job_id}").json
    assert (found["status"], found["percent"]) == ("completed", 100.0)
    assert "error" not in found and "failed_images" not in found
    hands.expect_books_balanced(app)


def test_job_without_stores_says_which_images_failed(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statuses, "MOST_FAILED_IMAGES", 2)
    job_id = create(app, by_url(4))
    hands.work_off(app, lambda work: hands.failed(work) if work.seq else hands.done(work))
    found = client.get(f"/api/status?jobid={job_id}").json
    assert found["status"] == "failed" and "error" not in found
    assert found["failed_images"] == [
        {
            "seq": seq,
            "url": f"https://host/{seq}.jpg",
            "client_ref": str(seq),
            "error_code": "http_404",
            "error_message": "the server answered 404 Not Found",
        }
        for seq in (1, 2)
    ]
    assert client.post(f"/api/jobs/{job_id}/retry").json["reopened"] == 3
    hands.work_off(app)
    assert client.get(f"/api/status?jobid={job_id}").json["status"] == "completed"
    hands.expect_books_balanced(app)


def test_what_the_client_said_of_an_image_is_shown_as_it_was_sent(app: Flask, client: FlaskClient) -> None:
    said = {"client_ref": "IMG_1.jpg", "store_name": "BHARAT", "camera_id": "cam 3", "barcode": "8901030865278"}
    sent = "2020-09-02 00:00:53"
    image = NewImage(
        storage_key="uploads/a.jpg",
        captured_at=datetime(2020, 9, 2, 0, 0, 53),
        captured_as_sent=sent,
        bytes=90,
        sha256="0" * 64,
        **said,
    )
    job_id = create(app, [image], processors=[], keep_images=True)
    [shown] = client.get(f"/api/jobs/{job_id}/images").json["results"]
    assert {name: shown[name] for name in said} == said
    assert (shown["captured_at"], shown["sha256"], shown["url"]) == (sent, "0" * 64, None)
    job = client.get(f"/api/jobs/{job_id}").json
    assert (job["processors"], job["keep_images"]) == ([], True)


@pytest.mark.parametrize(("failing", "status"), [(False, "completed"), (True, "failed")])
def test_job_of_images_that_the_door_has_worked_on_is_closed_at_once(
    app: Flask, client: FlaskClient, failing: bool, status: str
) -> None:
    results = {"perimeter": {"version": "1", "result": {"perimeter": 100}}}
    images = [NewImage(storage_key="images/1.png", state=ImageState.DONE, results=results, **MEASURES)]
    if failing:
        images.append(NewImage(state=ImageState.FAILED, error_code="not_an_image", error_message="a page"))
    job_id = create(app, images, JobSource.IMAGES)
    assert client.get(f"/api/status?jobid={job_id}").json["status"] == status
    shown = client.get(f"/api/jobs/{job_id}/images").json["results"]
    assert (shown[0]["state"], shown[0]["results"], shown[0]["attempts"]) == ("done", results, 1)
    assert hands.work_off(app) == 0
    hands.expect_books_balanced(app)


def test_images_open_and_settled_may_lie_side_by_side(app: Flask, client: FlaskClient) -> None:
    images = by_url(60)
    images[20:50] = [NewImage(state=ImageState.DONE, **MEASURES)] * 30
    job_id = create(app, images)
    hands.expect_books_balanced(app)
    assert hands.work_off(app) == 30
    assert client.get(f"/api/status?jobid={job_id}").json["images"]["done"] == 60
    hands.expect_books_balanced(app)


def test_processors_that_are_not_known_and_too_many_images_are_refused(
    app: Flask, client: FlaskClient, make_app: Any
) -> None:
    with pytest.raises(InvalidRequestError, match=r"processors: there is no 'sharpen'; known are .*perimeter"):
        create(app, by_url(1), processors=["perimeter", "sharpen"])
    with pytest.raises(TooManyImagesError):
        create(make_app(JOB_MAX_IMAGES=3), by_url(4))
    assert client.get("/api/jobs").json["results"] == []


def test_results_and_storage_keys_are_written_with_the_outcome(app: Flask, client: FlaskClient) -> None:
    job_id = create(app, [*by_url(3), NewImage(storage_key="a/b.png", sha256="0" * 64)])
    long = {"tensor": {"version": "1", "result": {"text": "grün \\ \" ' \n" * 25_000}}}

    def outcome(work: Work) -> Outcome:
        if work.seq == 0:
            return hands.done(work)
        key = None if work.storage_key else "images/1.jpg"
        return hands.done(work)._replace(results=json.dumps(long), storage_key=key, sha256="1" * 64 if key else None)

    assert hands.work_off(app, outcome) == 4
    shown = client.get(f"/api/jobs/{job_id}/images").json["results"]
    assert [image.get("results") for image in shown] == [None, long, long, long]
    assert [image.get("sha256", "")[:1] for image in shown] == ["", "1", "1", "0"]
    with app.app_context():
        query = select(Image.storage_key).order_by(Image.seq)
        keys = transactions.read(lambda session: session.scalars(query).all())
    assert keys == [None, "images/1.jpg", "images/1.jpg", "a/b.png"]
    hands.expect_books_balanced(app)


def test_results_count_once_though_the_answer_to_their_commit_is_lost(
    app: Flask, client: FlaskClient, cut_commit: Any
) -> None:
    job_id = create(app, by_url(4), processors=["perimeter"])
    with app.app_context():
        claimed = hands.claim()
        assert {work.wanted for each in claimed for work in each.work} == {Wanted(("perimeter",), keep=False)}
        cut_commit(after=True)
        hands.settle(
            claimed, lambda work: hands.done(work)._replace(results="{}") if work.seq % 2 else hands.done(work)
        )
    assert client.get(f"/api/status?jobid={job_id}").json["images"]["done"] == 4
    hands.expect_books_balanced(app)
