"""Section 2 of the contract: POST /upload_image_batch, GET /image_batches, GET /uploads/<uuid>.jpg."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.extensions import storage
from tests.integration import hands, photos

FILE_PATH = re.compile(r"uploads/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\.jpg")


def upload(client: FlaskClient, *items: Any, **options: Any) -> Any:
    answer = client.post("/upload_image_batch", json=list(items) or [photos.item()], **options)
    assert answer.status_code == 200, answer.text
    return answer.json


def stored(app: Flask) -> set[str]:
    with app.app_context():
        return {stat.key for stat in storage.list("uploads")}


@pytest.fixture
def app(make_app: Callable[..., Flask], tmp_path: Path) -> Flask:
    return make_app(STORAGE_URL=(tmp_path / "files").as_uri(), UPLOAD_MAX_FILES=20, FETCH_MAX_BYTES=100_000)


@pytest.mark.parametrize("path", ["/upload_image_batch", "/upload_image_batch/"])
def test_a_batch_is_taken_at_once_and_listed_in_the_exact_shape(client: FlaskClient, path: str) -> None:
    answer = client.post(path, json=[photos.item(), photos.item(barcode="2", timestamp="noon")])
    assert answer.status_code == 200
    assert answer.json == {"success": True, "batch_id": answer.json["batch_id"], "job_id": answer.json["job_id"]}
    [batch] = client.get("/image_batches?page=1&per_page=100").json
    assert set(batch) == {"_id", "images"}
    assert batch["_id"] == {"$oid": answer.json["batch_id"]}
    first, second = batch["images"]
    assert FILE_PATH.fullmatch(first.pop("file_path"))
    assert first == {
        "timestamp": "2019-10-11 17:20:05",
        "store_name": "BHARAT STORE",
        "camera_id": "cam-1",
        "barcode": "4006381333931",
    }
    assert (second["barcode"], second["timestamp"]) == ("2", "noon")


def test_a_batch_is_a_job_like_any_other(app: Flask, client: FlaskClient) -> None:
    job_id = upload(client, photos.item(), photos.item())["job_id"]
    status = client.get(f"/api/status?jobid={job_id}").json
    assert (status["status"], status["source"], status["images"]["total"]) == ("ongoing", "batches", 2)
    assert hands.work_off(app) == 2
    assert client.get(f"/api/status?jobid={job_id}").json["status"] == "completed"
    hands.expect_books_balanced(app)


def test_a_photo_is_had_again_with_the_type_that_its_header_says(client: FlaskClient) -> None:
    body = photos.image("PNG")
    upload(client, photos.item(body))
    [batch] = client.get("/image_batches?page=1&per_page=1").json
    answer = client.get(f"/{batch['images'][0]['file_path']}")
    assert (answer.status_code, answer.data) == (200, body)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_bodies_content_type_does_not_matter(client: FlaskClient) -> None:
    text = json.dumps([photos.item()])
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert client.post("/upload_image_batch", data=text, content_type=kind).status_code == 200


def test_numbers_and_spaces_come_back_as_text_and_unknown_fields_are_ignored(client: FlaskClient) -> None:
    upload(client, photos.item(barcode=4006381333931, camera_id=" 7 ", timestamp=1570814405000, more={"a": [1, {}]}))
    [batch] = client.get("/image_batches?page=1&per_page=1").json
    photo = batch["images"][0]
    assert (photo["barcode"], photo["camera_id"], photo["timestamp"]) == ("4006381333931", " 7 ", "1570814405000")


def test_base64_with_line_breaks_is_read(client: FlaskClient) -> None:
    item = photos.item()
    item["file"] = "\r\n".join(item["file"][at : at + 76] for at in range(0, len(item["file"]), 76))
    upload(client, item)


GOOD = photos.item()
BAD_BODIES = {
    "not JSON": ("hello", "body: not a JSON list"),
    "nothing": ("", "body: not a JSON list"),
    "an object": (json.dumps(GOOD), "body: not a JSON list"),
    "an empty list": ("[]", "body: there is no image in it"),
    "cut": (json.dumps([GOOD, GOOD])[:-40], "[1]: not JSON: the body ends in it"),
    "a bad item": ('[{"file": nope}]', "[0]: not JSON: "),
    "an item that is no object": (json.dumps([GOOD, 7]), "[1]: not a JSON object"),
    "no item behind the comma": (json.dumps([GOOD])[:-1] + ",]", "[1]: not JSON"),
    "two lists": (json.dumps([GOOD]) * 2, "body: not JSON: it goes on behind the end of the list"),
    "many brackets": ("[" * 100_000, "[0]: has more in it than is read"),
    "a closing brace": ("[}]", "[0]: not JSON"),
}
BAD_ITEMS = {
    "no file": (photos.item(file=None), "[1].file: is missing"),
    "no timestamp": (photos.item(timestamp=None), "[1].timestamp: is missing"),
    "no store": (photos.item(store_name=None), "[1].store_name: is missing"),
    "no camera": (photos.item(camera_id=None), "[1].camera_id: is missing"),
    "no barcode": (photos.item(barcode=None), "[1].barcode: is missing"),
    "null": (photos.item() | {"barcode": None}, "[1].barcode: not a string"),
    "a list": (photos.item(camera_id=["x"]), "[1].camera_id: not a string"),
    "too long": (photos.item(store_name="x" * 256), "[1].store_name: "),
    "a control character": (photos.item(store_name="x\0y"), "[1].store_name: holds a control character"),
    "bad base64": (photos.item(file="abc$"), "[1].file: not base64"),
    "base64 cut": (photos.item(file=photos.item()["file"][:-3]), "[1].file: not base64"),
    "not ASCII": (photos.item(file="äöü="), "[1].file: not base64"),
    "an empty file": (photos.item(b""), "[1].file: It is something else, not an image."),
    "a page": (photos.item(b"<html>"), "[1].file: It is a web page (HTML), not an image."),
    "a cut header": (photos.item(photos.image()[:20]), "[1].file: It begins like a JPEG image"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_body_that_is_no_list_of_items_is_refused(app: Flask, client: FlaskClient, name: str) -> None:
    body, reason = BAD_BODIES[name]
    answer = client.post("/upload_image_batch", data=body)
    assert answer.status_code == 400
    assert answer.json["error"].startswith(reason), answer.json
    assert stored(app) == set()


@pytest.mark.parametrize("name", BAD_ITEMS)
def test_a_bad_item_is_named_and_nothing_is_kept(app: Flask, client: FlaskClient, name: str) -> None:
    item, reason = BAD_ITEMS[name]
    answer = client.post("/upload_image_batch", json=[GOOD, item, GOOD])
    assert answer.status_code == 400
    assert answer.json["error"].startswith(reason), answer.json
    assert stored(app) == set()
    assert client.get("/api/jobs").json["results"] == []


def test_what_is_too_large_is_refused_with_the_bound(app: Flask, client: FlaskClient, monkeypatch: Any) -> None:
    answer = client.post("/upload_image_batch", json=[GOOD] * 21)
    assert (answer.status_code, "more than the 20 images" in answer.json["error"]) == (413, True)
    answer = client.post("/upload_image_batch", json=[GOOD, photos.item(photos.image() + bytes(100_000))])
    assert (answer.status_code, answer.json["error"][:10]) == (413, "[1].file: ")
    assert "larger than the 100000 bytes" in answer.json["error"]
    answer = client.post("/upload_image_batch", json=[GOOD, photos.item(bytes(400_000))])
    assert (answer.status_code, answer.json["error"][:5]) == (413, "[1]: ")
    monkeypatch.setitem(app.config, "SETTINGS", app.config["SETTINGS"].model_copy(update={"UPLOAD_MAX_BYTES": 2000}))
    answer = client.post("/upload_image_batch", json=[GOOD] * 10)
    assert (answer.status_code, answer.json["error"]) == (
        413,
        "the body is larger than the 2000 bytes that are taken here",
    )
    assert stored(app) == set()


def test_store_names_are_matched_where_they_are_unique(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app, hands.STORES | {"S1": ("7", "Twice"), "S2": ("8", "Twice")})
    names = ["BHARAT STORE", " Kaveri Kirana ", "Twice", "Nowhere", "bharat store"]
    job_id = upload(client, *(photos.item(store_name=name) for name in names))["job_id"]
    images = client.get(f"/api/jobs/{job_id}/images").json["results"]
    assert [image.get("store_id") for image in images] == ["S00339218", "S01408764", None, None, None]
    assert [image["store_name"] for image in images] == names


def test_batches_are_paged_newest_first(client: FlaskClient) -> None:
    assert client.get("/image_batches?page=1&per_page=2").json == []
    ids = [upload(client)["batch_id"] for _ in range(5)]
    pages = [client.get(f"/image_batches?page={page}&per_page=2").json for page in (1, 2, 3)]
    assert [batch["_id"]["$oid"] for page in pages for batch in page] == ids[::-1]
    answer = client.get("/image_batches?page=4&per_page=2")
    assert (answer.status_code, answer.json) == (404, {"error": "no such page"})


UNREADABLE = ["", "page=1", "per_page=5", "page=x&per_page=5", "page=0&per_page=5", "page=1&per_page=0"]
UNREADABLE += ["page=&per_page=5", "page=1&per_page=9999", "page=1.5&per_page=5", "page=1&per_page=5&from=soon"]


@pytest.mark.parametrize("query", UNREADABLE)
def test_a_missing_or_unreadable_parameter_is_400(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/image_batches?{query}")
    assert answer.status_code == 400
    assert answer.json["error"]


def test_photos_are_searched_by_what_their_cameras_know(client: FlaskClient) -> None:
    old = upload(client, photos.item(camera_id="a", barcode="1", timestamp="2019-10-01"), photos.item(store_name="X"))
    new = upload(client, photos.item(camera_id="a", barcode="2", timestamp="2019-10-31T12:00:00+05:30"))

    def find(query: str) -> dict[str, int]:
        answer = client.get(f"/image_batches?page=1&per_page=10&{query}")
        return {batch["_id"]["$oid"]: len(batch["images"]) for batch in answer.json}

    old_id, new_id = old["batch_id"], new["batch_id"]
    assert find("camera_id=a") == {new_id: 1, old_id: 1}
    assert find("barcode=2") == {new_id: 1}
    assert find("store_name=X") == {old_id: 1}
    assert find("camera_id=a&barcode=3") == {}
    assert find("from=2019-10-31T06:30:00Z") == {new_id: 1}
    assert find("from=2019-10-31T06:30:01Z") == {}
    assert find("from=2019-10-31T12:00:00+05:30") == {new_id: 1}
    assert find("to=2019-10-31") == {new_id: 1, old_id: 2}
    assert find("to=2019-10-01") == {old_id: 1}
    assert client.get("/image_batches?page=2&per_page=10&camera_id=a").status_code == 404


def test_other_jobs_are_no_batches(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client)
    assert client.get("/image_batches?page=1&per_page=10").json == []


def test_the_same_idempotency_key_makes_one_batch_and_keeps_one_set_of_files(app: Flask, client: FlaskClient) -> None:
    key = {"Idempotency-Key": "batch-7"}
    first = upload(client, GOOD, headers=key)
    files = stored(app)
    assert upload(client, GOOD, headers=key) == first
    assert stored(app) == files
    answer = client.post("/upload_image_batch", json=[GOOD, GOOD], headers=key)
    assert answer.status_code == 409
    assert stored(app) == files
    assert len(client.get("/image_batches?page=1&per_page=10").json) == 1


def test_processors_and_priority_are_those_of_the_job(client: FlaskClient) -> None:
    answer = client.post("/upload_image_batch?processors=perimeter&priority=7", json=[GOOD])
    job = client.get(f"/api/jobs/{answer.json['job_id']}").json
    assert (job["processors"], job["priority"]) == (["perimeter"], 7)
    answer = client.post("/upload_image_batch?processors=nope", json=[GOOD])
    assert (answer.status_code, answer.json["error"][:11]) == (400, "processors:")
    assert client.post("/upload_image_batch?priority=10", json=[GOOD]).status_code == 400


def test_a_lost_commit_makes_one_batch_whose_files_are_there(
    app: Flask, client: FlaskClient, cut_commit: Callable[..., list[str]]
) -> None:
    cuts = cut_commit(after=True)
    upload(client, GOOD, GOOD)
    assert cuts == ["cut"]
    [batch] = client.get("/image_batches?page=1&per_page=10").json
    assert all(client.get(f"/{image['file_path']}").status_code == 200 for image in batch["images"])


def test_a_storage_that_fails_is_503_and_leaves_no_job(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    app = make_app(STORAGE_URL=(tmp_path / "file" / "x").as_uri())
    client = app.test_client()
    answer = client.post("/upload_image_batch", json=[GOOD])
    assert answer.status_code == 503
    assert answer.json["error"].startswith("The file could not be stored")
    assert client.get("/api/jobs").json["results"] == []
