"""How stored files are served: types, parts, caches, by whom, and to whom not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient

from app.domain import orphans
from app.extensions import storage
from testbed.s3 import ACCESS_KEY, S3, SECRET_KEY
from tests.integration import photos

BODY = photos.image("PNG", (200, 100))

# What is tried here is no matter of the database.
pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture(params=["local", "s3"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "local":
        return {"STORAGE_URL": (tmp_path / "files").as_uri()}
    server: S3 = request.getfixturevalue("s3")
    account = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    return {"STORAGE_URL": server.url(tmp_path.name.replace("_", "-"))} | account


@pytest.fixture
def app(make_app: Callable[..., Flask], options: dict[str, str]) -> Flask:
    return make_app(**options)


@pytest.fixture
def path(client: FlaskClient) -> str:
    """The address of a photo that was uploaded."""
    assert client.post("/upload_image_batch", json=[photos.item(BODY)]).status_code == 200
    [batch] = client.get("/image_batches?page=1&per_page=1").json
    return f"/{batch['images'][0]['file_path']}"


def test_a_file_is_sent_whole(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.data) == (200, BODY)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Length"] == str(len(BODY))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("inline; filename=")
    assert "private" in answer.headers["Cache-Control"] and "immutable" in answer.headers["Cache-Control"]


def test_a_head_has_the_same_headers_and_no_body(client: FlaskClient, path: str) -> None:
    sent, head = client.get(path), client.head(path)
    assert head.data == b""
    for name in ("Content-Type", "Content-Length", "ETag", "Last-Modified", "Accept-Ranges"):
        assert head.headers[name] == sent.headers[name]


@pytest.mark.parametrize(
    ("range_", "part"),
    [("0-9", slice(0, 10)), ("10-", slice(10, None)), ("-7", slice(-7, None)), (f"5-{10 * len(BODY)}", slice(5, None))],
)
def test_a_part_is_sent(client: FlaskClient, path: str, range_: str, part: slice) -> None:
    answer = client.get(path, headers={"Range": f"bytes={range_}"})
    assert (answer.status_code, answer.data) == (206, BODY[part])
    start, stop, _ = part.indices(len(BODY))
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(BODY)}"
    assert answer.headers["Content-Length"] == str(stop - start)


def test_parts_that_cannot_be_sent(client: FlaskClient, path: str) -> None:
    beyond = client.get(path, headers={"Range": "bytes=999999-"})
    assert (beyond.status_code, set(beyond.json)) == (416, {"error"})
    assert beyond.headers["Content-Range"] == f"bytes */{len(BODY)}"
    several = client.get(path, headers={"Range": "bytes=0-1,4-5"})
    assert (several.status_code, several.data) == (200, BODY)
    changed = client.get(path, headers={"Range": "bytes=0-1", "If-Range": '"another"'})
    assert (changed.status_code, changed.data) == (200, BODY)


def test_what_a_client_has_is_not_sent_again(client: FlaskClient, path: str) -> None:
    first = client.get(path)
    for headers in (
        {"If-None-Match": first.headers["ETag"]},
        {"If-None-Match": "*"},
        {"If-Modified-Since": first.headers["Last-Modified"]},
    ):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.data) == (304, b"")
        assert answer.headers["ETag"] == first.headers["ETag"]
    assert client.get(path, headers={"If-None-Match": '"another"'}).status_code == 200


def test_an_image_of_a_job_is_had_by_its_place(client: FlaskClient, path: str) -> None:
    job_id = client.get("/api/jobs").json["results"][0]["job_id"]
    [image] = client.get(f"/api/jobs/{job_id}/images").json["results"]
    assert image["file"] == f"/api/jobs/{job_id}/images/0/file"
    assert client.get(image["file"]).data == BODY
    assert client.get(f"/api/jobs/{job_id}/images/1/file").status_code == 404
    for place in ("999/images/0", "0/images/0", f"{job_id}/images/{2**63}", f"{10**30}/images/0"):
        assert client.get(f"/api/jobs/{place}/file").status_code == 404


@pytest.mark.parametrize(
    "name",
    ["x.jpg", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "00000000-0000-4000-8000-000000000000.jpg",
     "00000000000040008000000000000000.jpg", "00000000-0000-4000-8000-000000000000.png", "a%00b.jpg", "%0a.jpg",
     "00000000-0000-4000-8000-000000000000.jpg%0a", "C:%5cx.jpg"],
)  # fmt: skip
def test_what_is_not_there_is_404_whatever_it_is_called(client: FlaskClient, path: str, name: str) -> None:
    answer = client.get(f"/uploads/{name}")
    assert answer.status_code == 404
    assert set(answer.json) == {"error"}
    assert client.get(path.upper().replace("/UPLOADS", "/uploads")).status_code == 404


def test_a_file_that_is_gone_is_404_and_a_storage_that_is_away_503(app: Flask, client: FlaskClient, path: str) -> None:
    with app.app_context():
        [stat] = storage.list("uploads")
        storage.delete([stat.key])
    answer = client.get(path)
    assert (answer.status_code, answer.json) == (404, {"error": "The stored file is not there."})


def test_s3_can_be_led_to_by_links_that_run_out(make_app: Callable[..., Flask], s3: S3) -> None:
    account = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    client = make_app(STORAGE_URL=s3.url("links"), FILES_LINK_SECONDS=60, **account).test_client()
    job_id = client.post("/upload_image_batch", json=[photos.item(BODY)]).json["job_id"]
    answer = client.get(f"/api/jobs/{job_id}/images/0/file")
    assert answer.status_code == 302
    assert answer.headers["Cache-Control"] == "private, max-age=30"
    found = requests.get(answer.headers["Location"], timeout=10)
    assert (found.content, found.headers["Content-Type"]) == (BODY, "image/png")
    assert SECRET_KEY not in answer.headers["Location"]


def test_orphans_are_removed_once_they_are_old_and_never_what_an_image_names(
    app: Flask, client: FlaskClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys() -> set[str]:
        return {stat.key for prefix in orphans.PREFIXES for stat in storage.list(prefix)}

    with app.app_context():
        named = keys()
        left = {f"{prefix}/00/{'0' * 32}.jpg" for prefix in orphans.PREFIXES}
        for key in left:
            storage.put(key, b"left behind")
        assert list(orphans.find()) == []
        assert orphans.remove() == 0
        older = app.config["SETTINGS"].model_copy(update={"FILES_ORPHAN_HOURS": -1})
        monkeypatch.setitem(app.config, "SETTINGS", older)
        assert {stat.key for stat in orphans.find()} == left
        assert orphans.remove() == len(left)
        assert keys() == named
    assert client.get(path).data == BODY
