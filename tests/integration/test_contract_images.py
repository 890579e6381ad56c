"""Section 5 of the contract: POST /images, GET /images, GET /images/view/<filename>."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import processors
from app.extensions import storage
from tests.integration import hands, photos

NAME = re.compile(r"[0-9a-f]{32}_a\.png")
GREY = photos.image("PNG", (40, 30), (20, 20, 20))


@pytest.fixture
def app(make_app: Callable[..., Flask], tmp_path: Path) -> Flask:
    return make_app(STORAGE_URL=(tmp_path / "files").as_uri(), FETCH_MAX_BYTES=200_000)


def post(client: FlaskClient, body: bytes = GREY, name: str = "a.png", query: str = "", **options: Any) -> Any:
    form = {"image": (io.BytesIO(body), name)}
    return client.post(f"/images{query}", data=form, content_type="multipart/form-data", **options)


def stored(app: Flask) -> set[str]:
    with app.app_context():
        return {stat.key for stat in storage.list("singles")}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_every_processor_answers_in_the_call(app: Flask, client: FlaskClient) -> None:
    answer = post(client)
    assert answer.status_code == 200
    assert set(answer.json) == {"image", "image_url", "result"}
    name, result = answer.json["image"], answer.json["result"]
    assert NAME.fullmatch(name)
    assert answer.json["image_url"] == f"http://localhost/images/view/{name}"
    assert result["Average Pixel Value"] == 20.0
    assert result["errors"] == {}
    assert set(result) == {processor.NAME for processor in processors.REGISTERED} | {"errors"}


def test_an_image_is_a_job_that_is_done_and_in_the_history(app: Flask, client: FlaskClient) -> None:
    query = "?processors=perimeter,Average Pixel Value"
    first, second = post(client, query=query).json, post(client, photos.image(), "b.jpg", query).json
    history = client.get("/images").json
    assert [set(entry) for entry in history] == [{"image_name", "image_url", "results", "uploaded_at"}] * 2
    assert [entry["image_name"] for entry in history] == [second["image"], first["image"]]
    assert [entry["image_url"] for entry in history] == [second["image_url"], first["image_url"]]
    assert history[1]["results"] == first["result"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", history[0]["uploaded_at"])
    job = client.get("/api/jobs").json["results"][1]
    assert (job["state"], job["source"], job["images"]["done"]) == ("completed", "images", 1)
    [image] = client.get(f"/api/jobs/{job['job_id']}/images").json["results"]
    assert (image["state"], image["width"], image["height"], image["perimeter"]) == ("done", 40, 30, 140)
    assert image["client_ref"] == "a.png"
    assert image["results"]["Average Pixel Value"]["result"] == 20.0
    hands.expect_books_balanced(app)


def test_the_history_is_paged_and_empty_past_its_end(client: FlaskClient) -> None:
    assert client.get("/images").json == []
    names = [post(client, query="?processors=perimeter").json["image"] for _ in range(3)]
    pages = [client.get(f"/images?page={page}&count=2").json for page in (1, 2, 3)]
    assert [[entry["image_name"] for entry in page] for page in pages] == [names[:0:-1], names[:1], []]


@pytest.mark.parametrize("query", ["page=x", "page=0", "count=-1", "count=1.5", "count=99999", "page=" + "9" * 30])
def test_numbers_that_cannot_be_read_are_400(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/images?{query}")
    assert (answer.status_code, set(answer.json)) == (400, {"error", "details"})


def test_an_image_is_had_again_by_its_name_only(client: FlaskClient) -> None:
    name = post(client, query="?processors=perimeter").json["image"]
    answer = client.get(f"/images/view/{name}")
    assert (answer.status_code, answer.data, answer.headers["Content-Type"]) == (200, GREY, "image/png")
    for other in (name.replace("_a.png", "_b.png"), name[:32], name[1:], "0" * 32 + "_a.png", "x", "..%2f" + name):
        for address in (f"/images/view/{other}", f"/images/results/{other}"):
            assert client.get(address).status_code == 404, address


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:/photos/a b.png", "a_b.png"),
        ("a.html", "a.html"),
        ("ü.png", "_.png"),
        ("x" * 300 + ".png", "x" * 96 + ".png"),
        ("..", "image"),
        ("a\tb.png", "a_b.png"),
    ],
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_clients_name_is_no_path(client: FlaskClient, sent: str, kept: str) -> None:
    answer = post(client, name=sent, query="?processors=perimeter").json
    assert answer["image"][33:] == kept
    shown = client.get(answer["image_url"])
    assert (shown.status_code, shown.headers["Content-Type"]) == (200, "image/png")


REFUSED = {
    "no form": ({"data": b"x", "content_type": "text/plain"}, "the body is no multipart/form-data"),
    "no body": ({}, "the body is no multipart/form-data"),
    "another field": ({"data": {"file": (io.BytesIO(GREY), "a.png")}}, "image: there is no file of that name"),
    "a text": (
        {"data": {"image": "a.png"}, "content_type": "multipart/form-data"},
        "image: there is no file of that name",
    ),
    "nothing": ({"data": {"image": (io.BytesIO(b""), "a.png")}}, "image: It is something else, not an image."),
    "a page": ({"data": {"image": (io.BytesIO(b"<html>"), "a.png")}}, "image: It is a web page (HTML), not an image."),
    "a drawing": ({"data": {"image": (io.BytesIO(b"<svg>"), "a.png")}}, "image: It is an SVG drawing, not an image."),
    "an icon": (
        {"data": {"image": (io.BytesIO(photos.image("ICO")), "a.png")}},
        "image: icon images are not read here.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_is_no_image_is_400_with_details(app: Flask, client: FlaskClient, name: str) -> None:
    options, reason = REFUSED[name]
    answer = client.post("/images", **options)
    assert (answer.status_code, set(answer.json)) == (400, {"error", "details"})
    assert answer.json["details"].startswith(reason), answer.json
    assert stored(app) == set()
    assert client.get("/images").json == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_too_large_is_413(app: Flask, client: FlaskClient) -> None:
    for size in (200_001, 400_000):
        answer = post(client, GREY + bytes(size - len(GREY)))
        assert (answer.status_code, set(answer.json)) == (413, {"error", "details"})
        assert "200000" in answer.json["details"] or "265536" in answer.json["details"]
    assert stored(app) == set()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_an_unknown_processor_is_400(client: FlaskClient) -> None:
    answer = post(client, query="?processors=nope")
    assert (answer.status_code, answer.json["details"][:11]) == (400, "processors:")


def test_a_cut_image_has_the_results_that_need_no_pixels(app: Flask, client: FlaskClient) -> None:
    body = photos.image("JPEG", (200, 200))
    answer = post(client, body[: len(body) // 2], "cut.jpg", "?processors=perimeter,Average Pixel Value")
    assert answer.status_code == 200
    result = answer.json["result"]
    assert result["perimeter"]["perimeter"] == 800
    assert list(result["errors"]) == ["Average Pixel Value"]
    assert client.get("/images").json[0]["results"] == result
    assert client.get("/api/jobs").json["results"][0]["state"] == "failed"
    hands.expect_books_balanced(app)


def test_a_worker_does_it_where_nobody_waits(app: Flask, client: FlaskClient) -> None:
    answer = post(client, query="?async=1&processors=perimeter")
    assert answer.status_code == 202
    assert set(answer.json) == {"image", "image_url", "results_url", "job_id"}
    address = answer.json["results_url"]
    assert answer.headers["Location"] == address
    waiting = client.get(address)
    assert (waiting.status_code, waiting.json) == (202, answer.json)
    assert int(waiting.headers["Retry-After"]) > 0
    assert client.get("/images").json[0]["results"] == {"errors": {}}
    assert hands.work_off(app) == 1
    found = client.get(address)
    assert (found.status_code, set(found.json)) == (200, {"image", "image_url", "result"})
    hands.expect_books_balanced(app)


def test_the_same_idempotency_key_makes_one_image(app: Flask, client: FlaskClient) -> None:
    key = {"Idempotency-Key": "photo-1"}
    query = "?processors=perimeter"
    first = post(client, query=query, headers=key)
    assert post(client, query=query, headers=key).json == first.json
    assert post(client, query=query, headers=key, name="other.png").status_code == 409
    assert len(stored(app)) == len(client.get("/images").json) == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_when_too_many_wait_it_is_503(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    app = make_app(STORAGE_URL=(tmp_path / "files").as_uri(), WEB_THREADS=1)
    client = app.test_client()
    assert post(client, query="?processors=perimeter").status_code == 200
    places = app.extensions["places"]
    with places:
        answer = post(client, query="?processors=perimeter")
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert post(client, query="?processors=perimeter&async=1").status_code == 202
    assert post(client, query="?processors=perimeter").status_code == 200
    assert len(stored(app)) == 3
