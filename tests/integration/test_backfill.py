"""``imagejobs backfill``: a processor over images that were worked on before it was there."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image as Picture

from app.domain import backfills, jobs
from app.domain.jobs import NewImage, NewJob
from app.errors import InvalidRequestError
from app.models import ImageState, JobSource
from app.storage import Storage
from testbed.processes import PROJECT
from tests.integration.hands import expect_books_balanced
from tests.odd import model

INFO = {"info": {"version": "1", "result": {"image_size": 9}}}
MEASURES: dict[str, Any] = {"width": 8, "height": 6, "perimeter": 28, "format": "PNG", "bytes": 90, "seconds": 0.1}

pytestmark = pytest.mark.usefixtures("odd")


def picture(pixel: int) -> bytes:
    file = io.BytesIO()
    Picture.new("L", (8, 6), pixel).save(file, "PNG")
    return file.getvalue()


def stored(app: Flask, bodies: Sequence[bytes | None]) -> int:
    """A job of images that are done and stored; None is a file that has gone."""
    storage: Storage = app.extensions["storage"]
    images = []
    for number, body in enumerate(bodies):
        key = f"images/00/backfill-{number}.png"
        storage.put(key, body or b"") if body is not None else storage.delete([key])
        images.append(NewImage(storage_key=key, state=ImageState.DONE, results=INFO, **MEASURES))
    with app.app_context():
        return jobs.create(NewJob(JobSource.IMAGES, images=images)).job_id


def results(client: FlaskClient, job_id: int) -> list[dict[str, Any]]:
    return [image["results"] for image in client.get(f"/api/jobs/{job_id}/images").json["results"]]


def run(app: Flask, name: str = "model", **more: Any) -> dict[int, Any]:
    with app.app_context():
        return dict(backfills.run(name, **more))


def command(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "app.cli", "backfill", *arguments]
    return subprocess.run(argv, env={**env, "PATH": ""}, cwd=PROJECT, capture_output=True, text=True, timeout=120)


def test_command_adds_a_processor_to_images_that_are_stored_and_nothing_the_second_time(
    app: Flask, client: FlaskClient, worker_env: dict[str, str]
) -> None:
    job_id = stored(app, [picture(90 + number) for number in range(10)])
    before = client.get(f"/api/jobs/{job_id}").json
    first = command(worker_env, "--processor", "Average Pixel Value")
    assert (first.returncode, first.stderr) == (0, "")
    assert (
        first.stdout == f"job {job_id}: 10 done, 0 failed, 0 had it already\nall: 10 done, 0 failed, 0 had it already\n"
    )
    found = results(client, job_id)
    assert [each["Average Pixel Value"]["result"] for each in found] == [90 + number for number in range(10)]
    assert all(each["info"] == INFO["info"] for each in found)
    second = command(worker_env, "--processor", "Average Pixel Value", "--job", str(job_id))
    assert second.stdout.endswith("all: 0 done, 0 failed, 10 had it already\n")
    assert client.get(f"/api/jobs/{job_id}").json == before
    expect_books_balanced(app)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_command_says_what_it_cannot_do(app: Flask, client: FlaskClient, worker_env: dict[str, str]) -> None:
    unknown = command(worker_env, "--processor", "sharpen")
    assert unknown.returncode == 2 and "there is no 'sharpen'; known are" in unknown.stderr
    stored(app, [picture(90), None])
    gone = command(worker_env, "--processor", "exif")
    assert gone.returncode == 1 and gone.stdout.endswith("1 done, 0 failed, 0 had it already, 1 could not be read\n")
    with pytest.raises(InvalidRequestError):
        run(app, "sharpen")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_newer_version_replaces_its_own_results_only(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = stored(app, [picture(90), picture(91)])
    assert run(app)[job_id].done == 2
    assert {each["model"]["version"] for each in results(client, job_id)} == {"2026-1"}
    monkeypatch.setattr(model, "VERSION", "2026-2")
    tally = run(app)[job_id]
    assert (tally.done, tally.already) == (2, 0)
    assert all(set(each) == {"info", "model"} for each in results(client, job_id))


def test_backfill_that_is_stopped_goes_on_where_it_was(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = stored(app, [picture(90 + number) for number in range(12)])
    monkeypatch.setattr(backfills, "IMAGES_A_PAGE", 4)
    pages: list[int] = []
    work_on_page = backfills._work_on_page

    def stopped(rows: Sequence[Any], *rest: Any) -> Any:
        if len(pages) == 2:
            raise KeyboardInterrupt
        pages.append(len(rows))
        return work_on_page(rows, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(backfills, "_work_on_page", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(app)
    assert ["model" in each for each in results(client, job_id)] == [True] * 8 + [False] * 4
    tally = run(app)[job_id]
    assert (tally.done, tally.already) == (4, 8)
    expect_books_balanced(app)


def test_image_that_cannot_be_worked_on_stays_done_and_says_why(app: Flask, client: FlaskClient) -> None:
    file = io.BytesIO()
    Picture.effect_noise((64, 48), 50).save(file, "PNG")
    job_id = stored(app, [picture(90), file.getvalue()[:1500], picture(0), picture(92)])
    tally = run(app)[job_id]
    assert (tally.done, tally.failed) == (2, 2)
    found = [each["model"] for each in results(client, job_id)]
    codes = [entry.get("error", {}).get("code") for entry in found]
    assert codes == [None, "broken_pixels", "decoder_crashed", None]
    assert (run(app)[job_id].already, run(app, with_errors=True)[job_id].already) == (4, 2)
    assert client.get(f"/api/jobs/{job_id}").json["images"]["done"] == 4
    expect_books_balanced(app)
