"""GET /api/jobs/<id>/results.json, .jsonl and .csv: whole jobs as files."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.domain import results
from app.web.schemas.results import ResultAnswer
from testbed.mariadb import MYSQLD
from tests.integration import hands
from tests.integration.exported import expect_broken_off, make_job, note_pages, set_results

FORMS = ["json", "jsonl", "csv"]
in_each_form = pytest.mark.parametrize("form", FORMS)
# What they show has nothing to do with SQL.
on_one_backend = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
COLUMNS = list(ResultAnswer.model_fields)[:-1]


def csv_rows(text: str, **options: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True, **options))


def rows(client: FlaskClient, job: int, form: str, query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/api/jobs/{job}/results.{form}?{query}")
    assert answer.status_code == 200, answer.text
    if form == "json":
        return answer.json["results"]
    return [json.loads(line) for line in answer.text.splitlines()] if form == "jsonl" else csv_rows(answer.text)


@pytest.fixture
def job(app: Flask, client: FlaskClient) -> int:
    return make_job(app, client)


@in_each_form
def test_every_image_stands_there_with_its_visit_and_store(client: FlaskClient, job: int, form: str) -> None:
    found = rows(client, job, form)
    assert [int(row["seq"]) for row in found] == [0, 1, 2, 3]
    good, bad, other, unknown = found
    assert list(good)[: len(COLUMNS)] == COLUMNS
    assert (good["state"], str(good["perimeter"]), str(good["bytes"])) == ("done", "1000", "20000")
    assert (good["store_id"], good["area"], good["store_name"]) == ("S00339218", "710006", "BHARAT STORE")
    assert (good["visit_time"], str(good["visit"])) == ("2020-09-02T00:00:53Z", "0")
    assert (bad["state"], bad["error_code"]) == ("failed", "http_404")
    assert (other["store_name"], str(other["visit"])) == ("Müller, Söhne & Cie", "1")
    assert (unknown["store_id"], unknown["error_code"]) == ("NOWHERE", "unknown_store")
    assert unknown["store_name"] in (None, "")


@in_each_form
@on_one_backend
def test_it_is_sent_as_a_file_with_a_name(client: FlaskClient, job: int, form: str) -> None:
    answer = client.get(f"/api/jobs/{job}/results.{form}")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="job-{job}-results.{form}"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.mimetype == {"json": "application/json", "jsonl": "application/x-ndjson", "csv": "text/csv"}[form]


@in_each_form
def test_only_what_was_asked_for_is_exported(client: FlaskClient, job: int, form: str) -> None:
    assert [int(row["seq"]) for row in rows(client, job, form, "state=failed")] == [1, 3]
    assert [int(row["seq"]) for row in rows(client, job, form, "state=failed&error_code=http_404")] == [1]
    assert rows(client, job, form, "state=cancelled") == []


@in_each_form
def test_a_job_that_is_not_there_is_404_and_an_odd_filter_400(client: FlaskClient, form: str) -> None:
    missing = client.get(f"/api/jobs/99/results.{form}")
    assert (missing.status_code, missing.json) == (404, {"error": "no such job"})
    assert client.get(f"/api/jobs/1/results.{form}?state=odd").status_code == 400
    assert client.get("/api/jobs/1/results.xml").status_code == 404


@in_each_form
def test_pages_join_without_a_gap(client: FlaskClient, job: int, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rows(client, job, form)
    for size in (1, 2, 3, 4, 5):
        monkeypatch.setattr(results, "ROWS_A_PAGE", size)
        assert rows(client, job, form) == whole


@in_each_form
@on_one_backend
def test_no_page_is_read_before_the_one_before_it_is_sent(
    client: FlaskClient, job: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "ROWS_A_PAGE", 1)
    pages = note_pages(monkeypatch)
    answer = client.get(f"/api/jobs/{job}/results.{form}", buffered=False)
    assert len(pages) == 1
    seen = [len(pages) for _piece in answer.response]
    assert seen == ([1, 1, 2, 3, 4, 5] if form == "json" else [1, 2, 3, 4, 5])


@on_one_backend
def test_the_status_links_to_them(client: FlaskClient, job: int) -> None:
    link = client.get(f"/api/jobs/{job}").json["links"]["results"]
    assert link == f"/api/jobs/{job}/results.json"
    assert client.get(link).json["job_id"] == job


def test_fields_of_processors_are_columns(app: Flask, client: FlaskClient, job: int) -> None:
    exif = {"version": "1", "result": {"make": "Acme", "gps": {"latitude": 12.5, "tags": ["a", "b"]}}}
    average = {"version": "1", "result": {"Average Pixel Value": 20.0}}
    set_results(
        app,
        job,
        {
            0: {"average": average, "exif": exif},
            1: {"average": {"version": "1", "error": "too dark"}},
            2: {"exif": exif},
        },
    )
    found = rows(client, job, "csv")
    more = list(found[0])[len(COLUMNS) :]
    if not MYSQLD:  # which puts the keys of a JSON object into an order of its own
        assert more[:-1] == [
            "average.Average Pixel Value",
            "average.error",
            "exif.make",
            "exif.gps.latitude",
            "exif.gps.tags",
        ]
    assert more[-1] == "more_results"
    assert {name: found[0][name] for name in more} == {
        "average.Average Pixel Value": "20.0",
        "average.error": "",
        "exif.make": "Acme",
        "exif.gps.latitude": "12.5",
        "exif.gps.tags": '["a", "b"]',
        "more_results": "",
    }
    assert {name for name in more if found[1][name]} == {"average.error"}
    assert found[1]["average.error"] == "too dark"
    assert rows(client, job, "json")[0]["results"] == {"average": average, "exif": exif}


@on_one_backend
def test_fields_beyond_the_columns_stand_in_the_last_one(
    app: Flask, client: FlaskClient, job: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_results(app, job, {0: {"exif": {"version": "1", "result": {str(n): n for n in range(600)}}}})
    found = rows(client, job, "csv")[0]
    assert len(found) == len(COLUMNS) + 500 + 1
    assert json.loads(found["more_results"]) == {f"exif.{n}": n for n in range(500, 600)}


@on_one_backend
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n=", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_csv_runs_nothing_in_a_spreadsheet(app: Flask, client: FlaskClient, start: str) -> None:
    evil = f"{start}HYPERLINK(\"http://evil\";1),'|calc'!A1"
    hands.add_stores(app, {"S1": ("=1+1", evil)})
    job = hands.submit(client, hands.visit("S1", [f"http://host/{evil.strip()}"]))
    hands.work_off(app, lambda work: hands.failed(work, message=evil))
    set_results(app, job, {0: {evil: {"version": "1", "result": {evil: evil}}}})
    answer = client.get(f"/api/jobs/{job}/results.csv").text
    [table] = [list(csv.reader(io.StringIO(answer.removeprefix("\ufeff"), newline=""), strict=True))]
    assert [len(row) for row in table] == [len(table[0])] * 2
    assert not [
        cell for row in table for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))
    ]
    assert table[1][COLUMNS.index("store_name")] == f"'{evil}"
    assert table[1][COLUMNS.index("area")] == "'=1+1"


@on_one_backend
def test_csv_is_utf_8_with_a_mark_that_excel_knows_it_by(client: FlaskClient, job: int) -> None:
    data = client.get(f"/api/jobs/{job}/results.csv").data
    assert data.startswith(b'\xef\xbb\xbf"job_id","seq"')
    assert "Müller, Söhne & Cie" in data.decode("utf-8-sig")
    assert data.count(b"\r\n") == data.count(b"\n") == 5
    assert client.get(f"/api/jobs/{job}/results.csv?bom=0").data.startswith(b'"job_id"')


@on_one_backend
@pytest.mark.parametrize(("name", "separator"), [("semicolon", ";"), ("tab", "\t"), ("comma", ",")])
def test_csv_comes_with_the_separator_that_is_asked_for(
    client: FlaskClient, job: int, name: str, separator: str
) -> None:
    text = client.get(f"/api/jobs/{job}/results.csv?separator={name}").text
    assert csv_rows(text, delimiter=separator)[2]["store_name"] == "Müller, Söhne & Cie"
    assert client.get(f"/api/jobs/{job}/results.csv?separator=|").status_code == 400


@in_each_form
@on_one_backend
def test_a_database_that_fails_on_the_way_breaks_the_answer_off(
    client: FlaskClient, job: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "ROWS_A_PAGE", 2)
    answer = client.get(f"/api/jobs/{job}/results.{form}", buffered=False)
    expect_broken_off(answer, monkeypatch)
