"""The upload page and its results, as people and as programs use them."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from app.domain import report_files, submissions, transactions, unpacking
from app.extensions import storage
from app.models import Job, Report, ReportState, Upload
from app.sql import db_now
from tests.integration.test_reports import CAT, CUP, build, settle, zipped
from tests.pictures import encoded, plain

PAGE = {"Accept": "text/html,application/xhtml+xml"}
OWN = {"Origin": "http://localhost"}


@pytest.fixture
def app(make_app: Callable[..., Flask], tmp_path: Path) -> Flask:
    return make_app(STORAGE_URL=(tmp_path / "files").as_uri())


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def post(client: FlaskClient, *files: tuple[str, bytes], headers: Any = None, **fields: str) -> Any:
    data: dict[str, Any] = dict(fields)
    data |= {f"file[{number}]": (io.BytesIO(body), name) for number, (name, body) in enumerate(files)}
    return client.post("/upload", data=data, headers=headers, content_type="multipart/form-data")


def handed_in(client: FlaskClient, *files: tuple[str, bytes], email: str = "") -> str:
    client.get("/upload", headers=PAGE)
    assert post(client, *files).status_code == 200
    answer = client.post("/process_redis", data={"email": email})
    assert answer.status_code == 200, answer.json
    return str(answer.json["submission"])


def worked_on(client: FlaskClient, *files: tuple[str, bytes]) -> str:
    upload_id = handed_in(client, *files)
    with client.application.app_context():
        while unpacking.open_next():
            pass
        settle(int(str(submissions.get(upload_id).upload.job_id)))
        build()
    return upload_id


def test_the_page_has_a_drop_zone_a_field_for_files_and_the_steps(client: FlaskClient) -> None:
    answer = client.get("/upload", headers=PAGE)
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    text = answer.get_data(as_text=True)
    assert 'enctype="multipart/form-data"' in text
    assert re.search(r'<input id="picker"[^>]* type="file"[^>]* multiple', text)
    assert text.count("<strong>Choose</strong>") == 1
    assert "No mails are sent here" in text
    assert 'name="email"' not in text


def test_each_page_begins_a_fresh_submission(client: FlaskClient) -> None:
    ids = [re.search(r'name="submission" value="([0-9a-f]{32})"', client.get("/upload").text) for _ in range(2)]
    assert ids[0] and ids[1] and ids[0][1] != ids[1][1]
    first = ids[0][1]
    post(client, ("cat.png", CAT), submission=first)
    assert client.post("/process_redis", data={}).status_code == 400  # of the second page, which has none
    assert client.post("/process_redis", data={"submission": first}).json["submission"] == first


def test_a_submission_of_another_browser_cannot_be_added_to(app: Flask) -> None:
    one, other = app.test_client(), app.test_client()
    upload_id = post(one, ("cat.png", CAT)).json["submission"]
    answer = post(other, ("cup.png", CUP), submission=upload_id)
    assert answer.json["submission"] != upload_id


def test_photos_go_in_and_a_zip_comes_out(client: FlaskClient) -> None:
    upload_id = handed_in(client, ("cat.png", CAT), ("shelf.zip", zipped(a__cup=CUP)))
    waiting = client.get(f"/results/{upload_id}")
    assert waiting.status_code == 202
    assert waiting.headers["Retry-After"] == "2"
    assert waiting.json == {
        "status": "queued",
        "place": 1,
        "job_id": None,
        "images": None,
        "images_done": 0,
        "images_failed": 0,
        "percent": 0.0,
        "remaining": None,
    }
    with client.application.app_context():
        assert unpacking.open_next()
        job_id = int(str(submissions.get(upload_id).upload.job_id))
        assert client.get(f"/results/{upload_id}").json["status"] == "queued"
        assert client.get(f"/results/{upload_id}").json["images"] == 2
        settle(job_id)
        assert client.get(f"/results/{upload_id}").json["status"] == "building the report"
        build()
    ready = client.get(f"/results/{upload_id}")
    assert ready.status_code == 200
    assert ready.mimetype == "application/zip"
    assert ready.headers["Content-Disposition"] == f"attachment; filename={upload_id}.zip"
    names = zipfile.ZipFile(io.BytesIO(ready.data)).namelist()
    assert names[:1] == [f"{upload_id}.xlsx"]
    assert names[3:] == ["images/00001-cat.jpg", "images/00002-cup.jpg"]
    for ending, kind in report_files.TYPES.items():
        file = client.get(f"/results/{upload_id}.{ending}")
        assert (file.status_code, file.mimetype) == (200, kind.partition(";")[0])
        assert len(file.data) == int(file.headers["Content-Length"])
    part = client.get(f"/results/{upload_id}.zip", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.data) == (206, b"PK\x03\x04")


def test_the_page_of_the_results_shows_photos_boxes_and_downloads(client: FlaskClient) -> None:
    page = client.get(f"/results/{handed_in(client, ('cat.png', CAT))}", headers=PAGE)
    assert page.status_code == 200
    assert "Place <strong" in page.text
    upload_id = worked_on(client, ("cup.png", CUP), ("grey.png", encoded(plain("grey"))))
    text = client.get(f"/results/{upload_id}", headers=PAGE).text
    assert "Your results are ready" in text
    assert re.search(r'data-label="Coffee cup" data-score="0\.\d+"', text)
    assert "nothing found" in text
    for ending in ("zip", "xlsx", "csv", "json"):
        assert f"/results/{upload_id}.{ending}" in text
    fragment = client.get(f"/results/{upload_id}", headers={"X-Fragment": "1", "Accept": "*/*"}).text
    assert "<html" not in fragment
    assert "data-done" in fragment


def test_photos_are_served_with_the_type_that_their_header_says(client: FlaskClient) -> None:
    jpeg = encoded(plain("red"), "JPEG")
    upload_id = worked_on(client, ("cat.png", CAT), ("shelf.zip", zipped(misnamed=jpeg, page=b"<html>")))
    with client.application.app_context():
        job_id = submissions.get(upload_id).upload.job_id
    files = [client.get(f"/api/jobs/{job_id}/images/{seq}/file") for seq in range(3)]
    assert [(file.status_code, file.mimetype) for file in files] == [
        (200, "image/png"),
        (200, "image/jpeg"),
        (404, "application/json"),
    ]
    assert files[1].data == jpeg


def test_names_that_people_give_are_shown_and_not_run(client: FlaskClient) -> None:
    upload_id = worked_on(client, ("<script>alert(1)</script>.png", CUP))
    text = client.get(f"/results/{upload_id}", headers=PAGE).text
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("name", ["results/" + "0" * 32, "results/x", "results/" + "0" * 32 + ".zip", "results/a.exe"])
def test_results_that_do_not_exist_are_404(client: FlaskClient, name: str) -> None:
    assert client.get(f"/{name}").status_code == 404
    assert client.get(f"/{name}", headers=PAGE).status_code == 404


def test_nothing_handed_in_says_so(client: FlaskClient) -> None:
    answer = client.post("/process_redis", data={"email": ""})
    assert (answer.status_code, answer.json) == (400, {"error": "Please upload images before starting!"})
    page = client.post("/process_redis", data={}, headers=PAGE | OWN)
    assert page.status_code == 400
    assert "Please upload images before starting!" in page.text


def test_an_address_is_checked_where_it_is_given(client: FlaskClient) -> None:
    client.get("/upload")
    post(client, ("cat.png", CAT))
    for wrong in (
        "nobody",
        "a@b",
        "a b@example.com",
        "a@example.com\r\nBcc: b@example.com",
        "a" * 260 + "@example.com",
    ):
        answer = client.post("/process_redis", data={"email": wrong})
        assert answer.status_code == 400, wrong
        assert "e-mail" in answer.json["error"]
    assert client.post("/process_redis", data={"email": "who@example.com"}).status_code == 200


def test_an_address_is_demanded_where_the_setting_says_so(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    client = make_app(STORAGE_URL=(tmp_path / "files").as_uri(), UPLOAD_EMAIL_REQUIRED=True).test_client()
    assert 'name="email" type="email"' in client.get("/upload").text
    post(client, ("cat.png", CAT))
    assert client.post("/process_redis", data={}).status_code == 400
    assert client.post("/process_redis", data={"email": "who@example.com"}).status_code == 200


def test_handing_in_twice_is_handing_in_once(client: FlaskClient) -> None:
    upload_id = handed_in(client, ("cat.png", CAT))
    assert client.post("/process_redis", data={}).json["submission"] == upload_id
    assert post(client, ("late.png", CUP)).status_code == 409
    with client.application.app_context():
        assert unpacking.open_next()
        assert not unpacking.open_next()
        assert len(transactions.read(lambda session: session.scalars(select(Job.id)).all())) == 1


def test_a_form_of_another_site_is_refused(client: FlaskClient) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/process_redis", data={}, headers=headers).status_code == 403
        assert post(client, ("cat.png", CAT), headers=headers).status_code == 403


def test_a_file_that_is_no_image_is_refused_with_the_reason_and_the_others_are_taken(client: FlaskClient) -> None:
    answer = post(client, ("page.jpg", b"<html>"), ("cat.png", CAT))
    assert answer.status_code == 200
    assert [(file["name"], file["status"]) for file in answer.json["files"]] == [
        ("page.jpg", "refused"),
        ("cat.png", "stored"),
    ]
    alone = post(client, ("page.jpg", b"<html>"))
    assert alone.status_code == 400
    assert "page.jpg" in alone.json["error"]
    assert client.post("/upload", data={}, content_type="multipart/form-data").status_code == 400
    assert client.post("/upload", json={}).status_code == 400


def test_without_scripts_the_form_shows_what_was_taken(client: FlaskClient) -> None:
    page = post(client, ("cat.png", CAT), ("page.jpg", b"<html>"), headers=PAGE | OWN)
    assert page.status_code == 200
    assert "1 file is uploaded" in page.text
    assert "page.jpg" in page.text
    upload_id = re.search(r'name="submission" value="([0-9a-f]{32})"', page.text)
    assert upload_id
    queued = client.post("/process_redis", data={"submission": upload_id[1]}, headers=PAGE | OWN)
    assert queued.status_code == 200
    assert f"/results/{upload_id[1]}" in queued.text


def test_a_body_past_the_bound_is_413(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    client = make_app(STORAGE_URL=(tmp_path / "files").as_uri(), UPLOAD_MAX_BYTES=300_000).test_client()
    assert post(client, ("cat.png", CAT)).status_code == 200
    assert post(client, ("cat.png", CAT)).status_code == 400  # one more is more than a submission may have
    assert post(client, ("cat.png", CAT), ("cup.png", CUP)).status_code == 413


def test_a_broken_body_is_400(client: FlaskClient) -> None:
    whole = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nabc\r\n--x--\r\n'
    for body in (b"", b"--x", whole[:40], whole[:-8], b"junk"):
        answer = client.post("/upload", data=body, content_type="multipart/form-data; boundary=x")
        assert answer.status_code == 400, body
        assert answer.json["error"]


def test_a_hostile_archive_is_refused_with_its_reason(client: FlaskClient) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../evil.png", CAT)
    upload_id = handed_in(client, ("holiday.zip", file.getvalue()))
    with client.application.app_context():
        assert unpacking.open_next()
    answer = client.get(f"/results/{upload_id}")
    assert answer.status_code == 400
    assert answer.json == {"error": "holiday.zip: '../evil.png' leads outside of the archive"}
    page = client.get(f"/results/{upload_id}", headers=PAGE)
    assert "leads outside of the archive" in page.text


def test_a_report_that_failed_is_said_to_have(client: FlaskClient) -> None:
    upload_id = worked_on(client, ("cat.png", CAT))
    with client.application.app_context():
        values = {"state": ReportState.FAILED, "error_message": "It could not be built: the disk is full."}
        transactions.run(lambda session: session.execute(update(Report).values(**values)))
    assert client.get(f"/results/{upload_id}").status_code == 500
    assert "the disk is full" in client.get(f"/results/{upload_id}", headers=PAGE).text


def test_the_countdown_is_a_range_by_the_rate_so_far(client: FlaskClient) -> None:
    upload_id = handed_in(client, *((f"{number}.png", encoded(plain("grey"))) for number in range(2)))
    with client.application.app_context():
        assert unpacking.open_next()
        values = {"started_at": db_now(-100), "images_total": 200, "images_open": 100, "images_done": 100}
        transactions.run(lambda session: session.execute(update(Job).values(**values)))
        found = submissions.get(upload_id)
        assert found.remaining == pytest.approx((80, 120), abs=2)
        assert found.percent == 50.0
        transactions.run(lambda session: session.execute(update(Job).values(images_open=196, images_done=4)))
        assert submissions.get(upload_id).remaining is None


def test_the_place_in_the_queue_counts_what_was_handed_in_before(client: FlaskClient) -> None:
    first, second = handed_in(client, ("a.png", CAT)), handed_in(client, ("b.png", CUP))
    assert client.get(f"/results/{second}").json["place"] == 2
    with client.application.app_context():
        assert unpacking.open_next()
        assert unpacking.open_next()
        settle(int(str(submissions.get(first).upload.job_id)))
    assert client.get(f"/results/{second}").json["place"] == 1
    assert client.get(f"/results/{first}").json["place"] is None


def test_another_keys_submission_is_like_one_that_does_not_exist(client: FlaskClient, context: None) -> None:
    upload_id = worked_on(client, ("cat.png", CAT))
    transactions.run(lambda session: session.execute(update(Upload).values(owner_id=7)))
    from app.domain import access
    from app.domain.access import Caller, Scope

    with client.application.test_request_context():
        access.enter(Caller(8, frozenset({Scope.READ, Scope.SUBMIT})))
        with pytest.raises(Exception, match="no such results"):
            submissions.get(upload_id)
        access.enter(Caller(7, frozenset({Scope.READ})))
        assert submissions.get(upload_id).is_ready


def test_a_job_belongs_to_whoever_handed_it_in(client: FlaskClient, context: None) -> None:
    upload_id = handed_in(client, ("cat.png", CAT))
    transactions.run(lambda session: session.execute(update(Upload).values(owner_id=7)))
    assert unpacking.open_next()
    assert transactions.read(lambda session: session.scalar(select(Job.owner_id))) == 7
    assert submissions.get(upload_id).job is not None


def test_large_files_are_not_held_in_memory(client: FlaskClient, context: None) -> None:
    body = zipped(**{f"p{number}": CUP for number in range(30)})
    assert len(body) > 10_000_000
    assert post(client, ("large.zip", body)).json["files"][0]["bytes"] == len(body)
    (stat,) = storage.list("submissions")
    assert stat.bytes == len(body)
