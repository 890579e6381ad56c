"""The upload page's requests sent again, with an Idempotency-Key; and what may be asked of the job of a submission."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from app.domain import transactions, unpacking
from app.models import Upload, UploadState
from app.storage import LocalStorage
from tests.integration import hands
from tests.integration.receivers import ELSEWHERE, SECRET
from tests.integration.test_reports import CAT, CUP

KEY = {"Idempotency-Key": "again"}
on_one_backend = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def app(make_app: Callable[..., Flask], files: Path) -> Flask:
    return make_app(STORAGE_URL=files.as_uri())


def stored(files: Path) -> int:
    return sum(1 for _ in LocalStorage(files).list("submissions"))


def post(client: FlaskClient, *bodies: bytes, headers: Any = None) -> Any:
    sent = {f"file[{number}]": (io.BytesIO(body), f"{number}.png") for number, body in enumerate(bodies)}
    return client.post("/upload", data=sent, headers=headers)


def states(app: Flask) -> list[tuple[UploadState, int]]:
    with app.app_context():
        rows = transactions.read(lambda session: session.execute(select(Upload.state, Upload.files)).all())
    return [tuple(row) for row in rows]


def at_once(app: Flask, send: Callable[[FlaskClient], Any], threads: int = 10) -> list[Any]:
    answers: list[Any] = []
    together = threading.Barrier(threads)

    def run() -> None:
        client = app.test_client()
        together.wait()
        answer = send(client)
        answers.append((answer.status_code, json.dumps(answer.json)))

    started = [threading.Thread(target=run) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return answers


def test_one_key_from_many_threads_uploads_once(app: Flask, files: Path) -> None:
    [(status, text)] = set(at_once(app, lambda client: post(client, CAT, b"no image", headers=KEY)))
    assert status == 200
    assert [file["status"] for file in json.loads(text)["files"]] == ["stored", "refused"]
    assert states(app) == [(UploadState.COLLECTING, 1)]
    assert stored(files) == 1


@on_one_backend
def test_a_program_that_lost_the_answer_goes_on_with_the_first_submission(app: Flask, files: Path) -> None:
    first = post(app.test_client(), CAT, headers=KEY).json
    again = app.test_client()
    assert post(again, CAT, headers=KEY).json == first
    assert post(again, CUP).json["submission"] == first["submission"]
    assert again.post("/process_redis").json["submission"] == first["submission"]
    assert (states(app), stored(files)) == ([(UploadState.QUEUED, 2)], 2)


@on_one_backend
def test_the_same_key_with_other_files_is_409_and_adds_nothing(app: Flask, client: FlaskClient, files: Path) -> None:
    post(client, CAT, headers=KEY)
    for other in (post(client, CUP, headers=KEY), post(client, CAT, CUP, headers=KEY)):
        assert (other.status_code, "Idempotency-Key" in other.json["error"]) == (409, True)
    assert (states(app), stored(files)) == ([(UploadState.COLLECTING, 1)], 1)
    assert post(client, b"no image", headers={"Idempotency-Key": "other"}).status_code == 400
    assert post(client, CUP, headers={"Idempotency-Key": "other"}).status_code == 200


@pytest.mark.parametrize("after", [True, False])
def test_a_lost_commit_adds_the_files_once(
    app: Flask, client: FlaskClient, files: Path, cut_commit: Callable[..., list[str]], after: bool
) -> None:
    assert post(client, CUP).status_code == 200
    cuts = cut_commit(after=after)
    assert post(client, CAT, CUP, headers=KEY).json["stored"] == 2
    assert cuts == ["cut"]
    assert (states(app), stored(files)) == ([(UploadState.COLLECTING, 3)], 3)


@on_one_backend
def test_an_upload_that_breaks_off_adds_nothing(app: Flask, client: FlaskClient, files: Path) -> None:
    whole = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + CAT + b"\r\n--B\r\n"
    answer = client.post("/upload", data=whole + b"Content-Dis", content_type="multipart/form-data; boundary=B")
    assert answer.status_code == 400
    assert (states(app), stored(files)) == ([], 0)


def test_one_key_from_many_threads_hands_in_once(app: Flask) -> None:
    browser = app.test_client()
    submission = post(browser, CAT).json["submission"]
    name = app.config["SESSION_COOKIE_NAME"]
    cookie = browser.get_cookie(name)
    assert cookie is not None

    def send(client: FlaskClient) -> Any:
        client.set_cookie(name, cookie.value)
        return client.post("/process_redis", data={"email": "a@example.com"}, headers=KEY)

    [(status, text)] = set(at_once(app, send))
    assert (status, json.loads(text)["submission"]) == (200, submission)
    assert states(app) == [(UploadState.QUEUED, 1)]
    other = browser.post("/process_redis", data={"email": "b@example.com"}, headers=KEY)
    assert other.status_code == 409


@pytest.mark.parametrize("where", ["form", "address"])
def test_what_is_asked_of_the_job_is_kept_until_it_is_made(app: Flask, client: FlaskClient, where: str) -> None:
    post(client, CAT)
    asked = {"priority": "8", "metadata": '{"tour": 7}', "processors": "quality"}
    asked |= {"callback_url": ELSEWHERE, "callback_secret": SECRET}
    as_form = where == "form"
    answer = client.post("/process_redis", **({"data": asked} if as_form else {"query_string": asked}))
    assert answer.status_code == 200, answer.text
    with app.app_context():
        while unpacking.open_next():
            pass
    [job] = client.get("/api/jobs").json["results"]
    assert (job["priority"], job["metadata"], job["keep_images"]) == (8, {"tour": 7}, True)
    assert job["processors"][-1] == "quality" and "detector" in job["processors"]
    [webhook] = client.get(f"/api/webhooks?job_id={job['job_id']}").json["results"]
    assert webhook["url"] == ELSEWHERE
    hands.work_off(app)
    [delivery] = client.get(webhook["links"]["deliveries"]).json["results"]
    assert delivery["event"] == "job.completed"


@on_one_backend
@pytest.mark.parametrize(
    "asked", [{"priority": "10"}, {"processors": "nope"}, {"callback_url": ELSEWHERE}, {"metadata": "7"}]
)
def test_what_cannot_be_asked_hands_nothing_in(app: Flask, client: FlaskClient, asked: dict[str, str]) -> None:
    post(client, CAT)
    answer = client.post("/process_redis", data=asked)
    assert answer.status_code == 400
    assert states(app) == [(UploadState.COLLECTING, 1)]
