"""What holds for every door alike: what may be asked of a job, and that one Idempotency-Key makes one job."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.storage import LocalStorage
from tests.integration import hands, photos
from tests.integration.receivers import ELSEWHERE, SECRET

on_one_backend = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
PHOTO = photos.image()
MANIFEST = b"id\turl\n0\thttp://h/0\n"
PREDICT = "/api/v1/batch_predict/"
ASKED = {"priority": 7, "metadata": {"tour": [7, "é"]}, "processors": ["perimeter", "info"], "keep_images": True}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def app(make_app: Callable[..., Flask], files: Path, tmp_path: Path) -> Flask:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "images.tsv").write_bytes(MANIFEST)
    return make_app(STORAGE_URL=files.as_uri(), MANIFEST_DIR=str(folder))


def batch(client: FlaskClient, query: str = "", headers: Any = None) -> Any:
    return client.post(f"/upload_image_batch?{query}", json=[photos.item(PHOTO)], headers=headers)


def single(client: FlaskClient, query: str = "", headers: Any = None) -> Any:
    sent = {"image": (io.BytesIO(PHOTO), "a.jpg")}
    return client.post(f"/images?async=1&{query}", data=sent, headers=headers)


def manifest(client: FlaskClient, query: str = "", headers: Any = None, **fields: Any) -> Any:
    sent = {"file": (io.BytesIO(MANIFEST), "images.tsv"), **fields}
    return client.post(f"/api/v1/images_info_async/?{query}", data=sent, headers=headers)


def predict(client: FlaskClient, query: str = "", headers: Any = None, **fields: Any) -> Any:
    sent = {"filepath": "images.tsv", "batch_size": 5, **fields}
    return client.post(f"{PREDICT}?{query}", json=sent, headers=headers)


DOORS = {"batch": batch, "single": single, "manifest": manifest, "predict": predict}
at_each_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


def asked(**more: Any) -> str:
    """As parameters of an address."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in (ASKED | more).items()}
    texts["processors"] = ",".join(ASKED["processors"])  # type: ignore[arg-type]
    return "&".join(f"{name}={quote(text)}" for name, text in texts.items())


def expect_as_asked(client: FlaskClient, job: int, *, more_processors: tuple[str, ...] = ()) -> None:
    shown = client.get(f"/api/jobs/{job}").json
    assert {name: shown[name] for name in ASKED} == ASKED | {"processors": ["perimeter", "info", *more_processors]}


@at_each_door
def test_what_is_asked_of_a_job_is_taken_at_every_door(client: FlaskClient, door: Callable[..., Any]) -> None:
    answer = door(client, asked(callback_url=ELSEWHERE))
    assert answer.status_code in (200, 202), answer.text
    job = answer.json["job_id"]
    expect_as_asked(client, job, more_processors=("tensor",) if door is predict else ())
    assert re.fullmatch(r"whsec_.{44}", answer.json["callback_secret"])
    [webhook] = client.get(f"/api/webhooks?job_id={job}").json["results"]
    assert webhook["url"] == ELSEWHERE
    given = door(client, asked(callback_url=ELSEWHERE, callback_secret=SECRET))
    assert "callback_secret" not in given.json
    assert "whsec_" not in client.get(f"/api/jobs/{job}").text


@at_each_door
@on_one_backend
@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("priority=10", "priority: is too large"),
        ("priority=high", "priority: not a whole number"),
        ("processors=nope", "processors: there is no 'nope'"),
        ("metadata=[", "metadata: not JSON"),
        ("metadata=7", "metadata: not a JSON object"),
        ("keep_images=often", "keep_images: "),
        ("callback_url=ftp://host/", "callback_url: not an http(s) URL"),
        ("callback_url=http://10.0.0.1/", "callback_url: the address is private"),
        (f"callback_url={ELSEWHERE}&callback_secret=short", "callback_secret: must be whsec_"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_nothing_is_kept(
    client: FlaskClient, files: Path, door: Callable[..., Any], query: str, reason: str
) -> None:
    answer = door(client, query)
    assert answer.status_code == 400
    assert answer.json.get("details", answer.json["error"]).startswith(reason)
    assert client.get("/api/jobs").json["results"] == []
    assert list(LocalStorage(files).list("uploads")) == list(LocalStorage(files).list("singles")) == []


@on_one_backend
@pytest.mark.parametrize("as_form", [True, False], ids=["form", "json"])
def test_the_body_of_a_manifest_may_say_it_too_and_counts_more(client: FlaskClient, as_form: bool) -> None:
    if as_form:
        texts = {"priority": "7", "metadata": json.dumps(ASKED["metadata"]), "processors": "perimeter, info"}
        answer = manifest(client, "priority=1&keep_images=1", **texts, callback_url="")
    else:
        answer = predict(client, "priority=1", **ASKED)
    assert answer.status_code == 200, answer.text
    expect_as_asked(client, answer.json["job_id"], more_processors=() if as_form else ("tensor",))
    assert predict(client, metadata=[7]).json == {"error": "metadata: not a JSON object"}


@on_one_backend
def test_an_answer_that_is_waited_for_has_no_room_for_a_secret(client: FlaskClient) -> None:
    sent = {"filepath": "images.tsv", "callback_url": ELSEWHERE}
    answer = client.post("/api/v1/images_info/", json=sent)
    assert (answer.status_code, answer.json["error"][:16]) == (400, "callback_secret:")


@on_one_backend
def test_an_image_whose_answer_comes_at_once_tells_its_callback(client: FlaskClient) -> None:
    sent = {"image": (io.BytesIO(PHOTO), "a.jpg")}
    answer = client.post(f"/images?processors=perimeter&callback_url={ELSEWHERE}", data=sent)
    assert answer.status_code == 200
    assert set(answer.json) == {"image", "image_url", "result", "callback_secret"}
    [job] = client.get("/api/jobs").json["results"]
    [webhook] = client.get(f"/api/webhooks?job_id={job['job_id']}").json["results"]
    [delivery] = client.get(webhook["links"]["deliveries"]).json["results"]
    assert delivery["event"] == "job.completed"


@at_each_door
def test_one_key_from_many_threads_makes_one_job(app: Flask, files: Path, door: Callable[..., Any]) -> None:
    answers: list[Any] = []
    together = threading.Barrier(12)

    def send() -> None:
        client = app.test_client()
        together.wait()
        answer = door(client, headers={"Idempotency-Key": "one"})
        answers.append((answer.status_code, json.dumps(answer.json)))

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 1, answers
    assert len(app.test_client().get("/api/jobs").json["results"]) == 1
    stored = [stat for prefix in ("uploads", "singles") for stat in LocalStorage(files).list(prefix)]
    assert len(stored) == (door in (batch, single))
    assert door(app.test_client(), "priority=3", headers={"Idempotency-Key": "one"}).status_code == 409
    hands.expect_books_balanced(app)
