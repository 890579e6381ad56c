"""Reports of jobs that came in by other doors than the upload page: asked for by API and on the job's page."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.domain import jobs, report_files, reports, transactions
from app.domain.jobs import NewImage, NewJob
from app.extensions import storage
from app.models import JobSource, Report, ReportState
from app.storage import new_key
from demo.host import Host
from testbed.processes import Process, wait_for
from tests.integration.hands import add_stores, submit, visit
from tests.integration.test_reports import settle
from tests.integration.test_workers import wait_until_settled
from tests.pictures import photo


@pytest.fixture
def app(make_app: Callable[..., Flask], worker_env: dict[str, str], tmp_path: Path) -> Flask:
    worker_env["STORAGE_URL"] = (tmp_path / "files").as_uri()
    return make_app(STORAGE_URL=worker_env["STORAGE_URL"])


def job_of_files(processors: list[str], *names: str) -> int:
    images = []
    for name in names:
        key = new_key("images", ".png")
        storage.put(key, photo(name))
        images.append(NewImage(storage_key=key, client_ref=name))
    return jobs.create(NewJob(JobSource.BATCHES, images=images, processors=processors)).job_id


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_a_job_by_url_has_its_report_built_by_a_worker(
    app: Flask, client: FlaskClient, start_worker: Callable[..., Process], tmp_path: Path
) -> None:
    add_stores(app)
    folder = tmp_path / "shop"
    folder.mkdir()
    for name in ("chelsea.png", "rocket.jpg"):
        (folder / name).write_bytes(photo(name))
    with Host(folder) as host:
        shown = visit(images=[f"{host.url}/chelsea.png", f"{host.url}/rocket.jpg"])
        kept = submit(client, shown, processors=["detector"], keep_images=True)
        asked = client.post(f"/api/jobs/{kept}/report")
        assert (asked.status_code, asked.json["status"], asked.json["links"]) == (202, "waiting for the job", None)
        assert client.get(f"/api/jobs/{kept}/report.zip").status_code == 202
        start_worker(GPU_PAUSE_MIN_SECONDS="0", GPU_PAUSE_MAX_SECONDS="0")
        wait_until_settled(client, kept)
    address = asked.headers["Location"]
    wait_for(lambda: client.get(address).json["status"] == "ready", 60, what="the report")
    told = client.get(address).json
    assert (told["images"], told["images_done"], set(told["links"])) == (2, 2, {"zip", "xlsx", "csv", "json"})
    answer = client.get(told["links"]["zip"])
    assert answer.headers["Content-Disposition"] == f"attachment; filename=job-{kept}.zip"
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        assert len([name for name in archive.namelist() if name.startswith("images/")]) == 2
        book = openpyxl.load_workbook(io.BytesIO(archive.read(f"job-{kept}.xlsx")))
    rows = list(book["Detections"].iter_rows(min_row=2, max_col=4, values_only=True))
    assert [(row[2], row[3]) for row in rows] == [("found", "Cat"), ("nothing found", None)]
    assert client.post(f"/api/jobs/{kept}/report").status_code == 200, "a second call changes nothing"


def test_a_job_that_was_not_detected_has_none(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        job_id = job_of_files(["info"], "chelsea.png")
    answer = client.post(f"/api/jobs/{job_id}/report")
    assert (answer.status_code, "did not ask for the processor detector" in answer.json["error"]) == (409, True)
    assert client.get(f"/api/jobs/{job_id}/report").status_code == 404
    assert client.get(f"/api/jobs/{job_id}/report.zip").status_code == 404
    assert "Build a report" not in client.get(f"/dashboard/jobs/{job_id}").text


def test_one_that_failed_is_built_anew_when_it_is_asked_for_again(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        job_id = job_of_files(["detector"], "chelsea.png")
        client.post(f"/api/jobs/{job_id}/report")
        settle(job_id)

        def fail(session: object) -> None:
            report = session.get(Report, job_id)  # type: ignore[attr-defined]
            report.state, report.due_at, report.error_message = ReportState.FAILED, None, "the disk is full"

        transactions.run(fail)
        told = client.get(f"/api/jobs/{job_id}/report")
        assert (told.json["status"], told.json["error"]) == ("failed", "the disk is full")
        assert client.get(f"/api/jobs/{job_id}/report.zip").status_code == 500
        assert client.post(f"/api/jobs/{job_id}/report").status_code == 202
        assert reports.build_next(lambda: False)
        assert client.get(f"/api/jobs/{job_id}/report").json["status"] == "ready"


def test_the_page_of_a_job_asks_for_it_and_hands_it_out(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        job_id = job_of_files(["detector"], "chelsea.png")
        page = f"/dashboard/jobs/{job_id}"
        assert "Build a report" in client.get(page).text
        asked = client.post(f"{page}/report", headers={"Sec-Fetch-Site": "same-origin"})
        assert (asked.status_code, asked.location) == (303, f"{page}#report")
        assert "The report will be built when the job has ended" in client.get(page).text
        settle(job_id)
        assert reports.wake() == 1
        assert "Building the report: 0 of 1 image" in client.get(page).text
        assert reports.build_next(lambda: False)
        shown = client.get(page).text
        for ending in report_files.TYPES:
            assert f"/api/jobs/{job_id}/report.{ending}" in shown


def test_a_report_that_was_built_anew_is_another_file_to_caches(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        job_id = job_of_files(["detector"], "chelsea.png")
        client.post(f"/api/jobs/{job_id}/report")
        settle(job_id)
        tags = []
        for _ in range(2):
            reports.wake()
            assert reports.build_next(lambda: False)
            tags.append(client.get(f"/api/jobs/{job_id}/report.csv").headers["ETag"])
            settle(job_id)  # ends it once more, as a retry does
        assert tags[0] != tags[1]
        unchanged = client.get(f"/api/jobs/{job_id}/report.csv", headers={"If-None-Match": tags[1]})
        assert unchanged.status_code == 304
