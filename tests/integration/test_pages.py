"""What the pages promise beside their looks: who may send their forms, what they answer, what they never do."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from sqlalchemy import update

from app import create_app
from app.domain import keys, transactions
from app.domain.access import Scope
from app.domain.keys import NewKey
from app.domain.visit_groups import Group
from app.models import Image as ImageRow
from config import Settings
from tests.integration import hands

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
OWN = {"Origin": "http://localhost"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"},
        {"Referer": "http://localhost/dashboard/jobs"},
    ],
)
def test_a_form_of_another_site_changes_nothing(app: Flask, client: FlaskClient, headers: dict[str, str]) -> None:
    hands.add_stores(app)
    job_id = hands.submit(client)
    answer = client.post(f"/dashboard/jobs/{job_id}/cancel", headers=headers)
    assert answer.status_code == 403
    assert "page of" in answer.json["error"]  # of another site, or none of this service where nothing says whose it is
    assert client.get(f"/api/jobs/{job_id}").json["state"] == "ongoing"


@pytest.mark.parametrize("headers", [OWN, {"Sec-Fetch-Site": "same-origin"}])
def test_a_form_of_ours_does_and_leads_on(app: Flask, client: FlaskClient, headers: dict[str, str]) -> None:
    hands.add_stores(app)
    job_id = hands.submit(client)
    answer = client.post(f"/dashboard/jobs/{job_id}/cancel", headers=headers)
    assert (answer.status_code, answer.location) == (303, f"/dashboard/jobs/{job_id}?did=cancelled")
    assert client.get(f"/api/jobs/{job_id}").json["state"] == "cancelled"
    again = client.post(f"/dashboard/jobs/{job_id}/cancel", headers=headers)
    assert again.status_code == 303


def test_a_browser_gets_errors_as_pages_and_a_program_as_json(client: FlaskClient) -> None:
    page = client.get("/dashboard/jobs/77", headers=BROWSER)
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "No such job." in page.text
    assert client.get("/dashboard/jobs/77").json == {"error": "no such job"}
    assert client.get("/api/jobs/77", headers=BROWSER).json == {"error": "no such job"}
    assert client.get("/api/nothing", headers=BROWSER).json == {"error": "no such address"}
    wrong_method = client.put("/dashboard/jobs", headers=BROWSER | OWN)
    assert (wrong_method.status_code, wrong_method.mimetype) == (405, "text/html")


def test_pages_bring_their_policy_and_files_may_be_kept(client: FlaskClient) -> None:
    page = client.get("/dashboard/jobs")
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy
    assert " style=" not in page.text and "<style" not in page.text
    style = next(part for part in page.text.split('"') if part.startswith("/dashboard/static/pages.css?v="))
    assert "max-age=604800" in client.get(style).headers["Cache-Control"]


def test_the_request_of_a_job_can_be_submitted_again(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    sent = hands.body(
        hands.visit(images=3), hands.visit("NOWHERE"), hands.visit("S01408764", 2, 1599004853000), metadata={"a": "é"}
    )
    job_id = client.post("/api/submit/", json=sent).json["job_id"]
    file = client.get(f"/dashboard/jobs/{job_id}/request.json")
    assert file.headers["Content-Disposition"] == f'attachment; filename="job-{job_id}-request.json"'
    rebuilt = json.loads(file.text)
    sent["visits"][2]["visit_time"] = "1599004853000"  # as it is stored: text
    assert rebuilt == sent | {"priority": 5, "keep_images": False}
    assert client.post("/api/submit/", data=file.data).status_code == 201


def test_retry_pages_count_as_retry_does(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job_id = hands.submit(client, hands.visit(images=5), hands.visit("NOWHERE", 2))
    hands.work_off(app, hands.failed)
    asked = client.get(f"/dashboard/jobs/{job_id}/retry")
    assert "5 images" in asked.text and "2 images stay as they are" in asked.text
    done = client.post(f"/dashboard/jobs/{job_id}/retry", headers=OWN)
    assert done.location == f"/dashboard/jobs/{job_id}?did=retried&images=5"
    assert "nothing to be tried again" in client.get(f"/dashboard/jobs/{job_id}/retry?code=http_404").text


def test_stores_of_a_job_come_with_their_first_reason(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job_id = hands.submit(client, hands.visit(images=2), hands.visit(images=3), hands.visit("NOWHERE", 4))
    hands.work_off(app, lambda work: hands.failed(work) if work.seq == 3 else hands.done(work))
    text = client.get(f"/dashboard/jobs/{job_id}/stores").text
    assert text.index("NOWHERE") < text.index("S00339218")  # most failed first
    assert "http_404: the server answered 404 Not Found" in text and "unknown_store: not in the store master" in text


def test_a_fragment_is_only_what_changes(client: FlaskClient) -> None:
    whole = client.get("/dashboard/jobs")
    part = client.get("/dashboard/jobs", headers={"X-Fragment": "1"})
    assert "<html" in whole.text and "<html" not in part.text and "No jobs yet" in part.text
    assert "X-Fragment" in whole.headers["Vary"]


@pytest.mark.parametrize(
    "address", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_a_login_leads_on_within_this_site_only(make_app: Callable[..., Flask], address: str) -> None:
    app = make_app(AUTH="keys")
    with app.app_context():
        key = keys.create(NewKey("x", frozenset({Scope.READ}))).text
    answer = app.test_client().post("/dashboard/login", query_string={"next": address}, data={"key": key}, headers=OWN)
    assert (answer.status_code, answer.location) == (303, "/")


def test_pages_without_a_key_lead_to_the_login_and_programs_get_401(make_app: Callable[..., Flask]) -> None:
    client = make_app(AUTH="keys").test_client()
    answer = client.get("/dashboard/jobs?state=failed", headers=BROWSER)
    assert (answer.status_code, answer.location) == (303, "/dashboard/login?next=/dashboard/jobs?state%3Dfailed")
    assert client.get("/dashboard/jobs").status_code == 401
    assert client.post("/dashboard/jobs/1/cancel", headers=BROWSER | OWN).status_code == 401


def test_without_its_database_a_page_says_so_and_what_to_do(tmp_path: Path) -> None:
    settings = Settings.from_env({}, DATABASE_URL="mysql+pymysql://u:p@127.0.0.1:1/none", DATA_DIR=tmp_path)
    answer = create_app(settings).test_client().get("/dashboard/visits?area=7", headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (503, "text/html")
    assert answer.headers["Retry-After"] and 'href="/dashboard/visits?area=7">Try again<' in answer.text


def test_a_stored_picture_is_shown_and_one_that_was_not_kept_is_not(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    photo = {"file": base64.b64encode(picture.getvalue()).decode(), "timestamp": "2020-09-02", "store_name": "<i>x</i>"}
    sent = client.post("/upload_image_batch", json=[photo | {"camera_id": "c1", "barcode": "123"}])
    stored = client.get(f"/dashboard/jobs/{sent.json['job_id']}/images/0").text
    address = f"/api/jobs/{sent.json['job_id']}/images/0/file"
    assert f'src="{address}"' in stored and client.get(address).data == picture.getvalue()
    assert "&lt;i&gt;x&lt;/i&gt;" in stored and "c1" in stored
    fetched = client.get(f"/dashboard/jobs/{hands.submit(client)}/images/0").text
    assert "<img class=" not in fetched and "was not kept" in fetched


@pytest.mark.parametrize(
    "query", ["endpoint=x", "_external=1&_scheme=javascript", "self=1&path=/x", "_anchor=a&job_id=7"]
)
def test_odd_names_in_an_address_lead_nowhere_else(app: Flask, client: FlaskClient, query: str) -> None:
    hands.add_stores(app)
    hands.submit(client)
    for path in ("/dashboard/", "/dashboard/visits", "/dashboard/jobs", "/dashboard/jobs/%d", "/dashboard/stores"):
        job_id = client.get("/api/jobs").json["results"][0]["job_id"]
        answer = client.get(f"{path % job_id if '%' in path else path}?{query}")
        assert answer.status_code == 200
        assert "javascript:" not in answer.text and 'href="http' not in answer.text.replace('href="https://host', "")


def test_an_image_shows_the_results_of_each_processor(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job_id = hands.submit(client)
    hands.work_off(app)
    results = {
        "quality": {"version": "2", "result": {"sharpness": 0.5, "note": "<b>"}},
        "barcodes": {"version": "1", "error": "engine_missing: no <engine>"},
    }
    with app.app_context():
        change = update(ImageRow).where(ImageRow.job_id == job_id).values(results=results)
        transactions.run(lambda session: session.execute(change))
    text = client.get(f"/dashboard/jobs/{job_id}/images/0").text
    assert "&#34;sharpness&#34;: 0.5" in text and "&#34;note&#34;: &#34;&lt;b&gt;&#34;" in text
    assert "engine_missing: no &lt;engine&gt;" in text and "<td>2</td>" in text


def test_years_that_clients_write_for_never_and_for_ever_can_be_shown(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, *(hands.visit(time=when) for when in ("1900-01-01", "2020-09-02", "9999-12-31T23:59:59Z")))
    hands.work_off(app)
    always = "start=1900-01-01&end=9999-12-31"
    for path in ("", "period", "visits", "stores/S00339218"):
        assert client.get(f"/dashboard/{path}?{always}").status_code == 200
    for group in Group:
        answer = client.get(f"/dashboard/visits?{always}&group={group.value}")
        assert answer.status_code == 200
        assert "9999-12-31" in answer.text


def test_a_submitted_list_asks_for_what_was_ticked(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    form = {"urls": "https://host/1.jpg", "store": "S00339218", "processors": ["quality", "info"], "keep": "yes"}
    looked = client.post("/dashboard/submit", data=form, headers=OWN)
    assert "&#34;processors&#34;: [" in looked.text and "&#34;keep_images&#34;: true" in looked.text
    done = client.post("/dashboard/submit", data=form | {"action": "submit"}, headers=OWN)
    job = client.get(done.location.replace("/dashboard/", "/api/").partition("?")[0]).json
    assert (job["processors"], job["keep_images"]) == (["quality", "info"], True)
