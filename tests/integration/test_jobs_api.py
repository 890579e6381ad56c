"""GET /api/jobs, /api/jobs/<id> and /api/jobs/<id>/images."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.domain import cursors
from tests.integration import hands


def pages(client: FlaskClient, path: str, **query: Any) -> list[list[dict]]:
    """All pages of a listing."""
    found = []
    cursor = None
    while True:
        answer = client.get(path, query_string=query | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        found.append(answer.json["results"])
        cursor = answer.json["next"]
        if cursor is None:
            return found


def test_jobs_come_newest_first_and_in_pages(client: FlaskClient) -> None:
    assert client.get("/api/jobs").json == {"results": [], "next": None}
    ids = [hands.submit(client) for _ in range(5)]
    found = pages(client, "/api/jobs", per_page=2)
    assert [len(page) for page in found] == [2, 2, 1]
    assert [job["job_id"] for page in found for job in page] == ids[::-1]
    assert len(pages(client, "/api/jobs", per_page=5)) == 1


def test_jobs_are_filtered(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    failed = hands.submit(client, hands.visit("NOWHERE"))
    completed = hands.submit(client, hands.visit("S00339218"))
    hands.work_off(app)
    ongoing = hands.submit(client, hands.visit("S01408764"), hands.visit("S00339218"))

    def ids(**query: str) -> list[int]:
        return [job["job_id"] for page in pages(client, "/api/jobs", **query) for job in page]

    assert ids(state="failed") == [failed]
    assert ids(state="completed") == [completed]
    assert ids(state="ongoing") == [ongoing]
    assert ids(state="cancelled") == []
    assert ids(storeid="S00339218") == [ongoing, completed]
    assert ids(store="S00339218", state="completed") == [completed]
    assert ids(storeid="ELSEWHERE") == []
    created = client.get(f"/api/jobs/{completed}").json["created_at"]
    assert ids(startdate=created) == [ongoing, completed]
    assert ids(enddate="2001-01-01") == []
    assert ids(enddate="9999-12-31") == [ongoing, completed, failed]


def test_a_job_shows_what_its_status_shows(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=2), hands.visit("NOWHERE"))
    hands.work_off(app)
    assert client.get(f"/api/jobs/{job}").json == client.get(f"/api/status?jobid={job}").json
    assert client.get(f"/api/jobs/{job}/").status_code == 200


@pytest.mark.parametrize("job", ["999999", "0", "9" * 19, "9" * 40, "abc", "-1", "1.5"])
def test_an_unknown_job_is_404(client: FlaskClient, job: str) -> None:
    for path in (f"/api/jobs/{job}", f"/api/jobs/{job}/images"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.json["error"]


def test_one_row_an_image(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=2), hands.visit("S01408764", 1))
    hands.work_off(app, lambda work: hands.failed(work) if work.seq == 1 else hands.done(work))
    answer = client.get(f"/api/jobs/{job}/images").json
    settled = answer["results"][0].pop("settled_at")
    assert settled.endswith("Z")
    assert answer["results"][0] == {
        "seq": 0,
        "visit": 0,
        "url": "https://host/S00339218/0.jpg",
        "state": "done",
        "error_code": None,
        "error_message": None,
        "width": 300,
        "height": 200,
        "perimeter": 1000,
        "format": "JPEG",
        "bytes": 20_000,
        "seconds": 0.25,
        "attempts": 1,
        "next_attempt_at": None,
    }
    assert [(row["state"], row["error_code"], row["visit"]) for row in answer["results"]] == [
        ("done", None, 0),
        ("failed", "http_404", 0),
        ("done", None, 1),
    ]


def test_images_are_filtered_and_paged(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=250), hands.visit("NOWHERE", 5))
    hands.work_off(app, lambda work: hands.failed(work) if work.seq % 10 == 0 else hands.done(work))
    path = f"/api/jobs/{job}/images"
    assert [len(page) for page in pages(client, path)] == [100, 100, 55]
    assert [row["seq"] for page in pages(client, path, per_page=7) for row in page] == list(range(255))
    failed = pages(client, path, state="failed", per_page=10)
    assert [len(page) for page in failed] == [10, 10, 10]
    assert [len(page) for page in pages(client, path, error_code="unknown_store")] == [5]
    assert pages(client, path, error_code="unknown_store", state="done") == [[]]
    assert pages(client, path, state="cancelled") == [[]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=broken", "state"),
        ("per_page=0", "per_page"),
        ("per_page=1001", "per_page"),
        ("per_page=1.5", "per_page"),
        ("cursor=!", "cursor"),
        ("cursor=" + cursors.write("text"), "cursor"),
        ("cursor=" + cursors.write(-1), "cursor"),
        ("cursor=" + cursors.write(2**63), "cursor"),
        ("cursor=" + cursors.write(1, 2), "cursor"),
        ("cursor=" + "W1tb" * 2000, "cursor"),
    ],
)
def test_a_bad_parameter_is_named(client: FlaskClient, query: str, field: str) -> None:
    job = hands.submit(client)
    for path in ("/api/jobs", f"/api/jobs/{job}/images"):
        answer = client.get(f"{path}?{query}")
        assert answer.status_code == 400, path
        assert answer.json["error"].startswith(f"{field}: ")
