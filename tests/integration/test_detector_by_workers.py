"""The detector in real workers: on photos in storage, with a model of one's own, beside jobs that need none."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from app.domain import jobs, report_files, reports, transactions
from app.domain.jobs import NewImage, NewJob
from app.extensions import storage
from app.models import Image, Job, JobSource, JobState, ReportState
from app.storage import new_key
from testbed.processes import Process, wait_for
from tests import onnx_models
from tests.pictures import encoded, photo, plain

StartWorker = Callable[..., Process]


@pytest.fixture
def app(make_app: Callable[..., Flask], worker_env: dict[str, str], tmp_path: Path) -> Flask:
    url = (tmp_path / "files").as_uri()
    worker_env["STORAGE_URL"] = url
    # Long enough to be seen in the seconds of an image that pauses.
    worker_env |= {"GPU_PAUSE_MIN_SECONDS": "30", "GPU_PAUSE_MAX_SECONDS": "30"}
    return make_app(STORAGE_URL=url)


def create(bodies: list[bytes], processors: list[str]) -> int:
    images = []
    for body in bodies:
        key = new_key("images", ".png")
        storage.put(key, body)
        images.append(NewImage(storage_key=key))
    return jobs.create(NewJob(JobSource.UPLOADS, images=images, processors=processors)).job_id


def images_of(job_id: int) -> list[Any]:
    query = select(Image).where(Image.job_id == job_id).order_by(Image.seq)
    return transactions.read(lambda session: list(session.scalars(query).all()))


def state_of(job_id: int) -> JobState:
    return transactions.read(lambda session: session.scalars(select(Job.state).where(Job.id == job_id)).one())


def test_a_worker_finds_what_is_on_photos_and_does_not_pause(app: Flask, start_worker: StartWorker) -> None:
    with app.app_context():
        cut = encoded(plain("red", size=(400, 400)), "JPEG")[:-200]
        job_id = create([photo("chelsea.png"), photo("coffee.png"), photo("rocket.jpg"), cut], ["detector", "exif"])
        start_worker()
        wait_for(lambda: state_of(job_id) is not JobState.ONGOING, 90, what="the job")
        cat, cup, rocket, damaged = images_of(job_id)
        for image, labels in ((cat, ["Cat"]), (cup, ["Coffee cup"]), (rocket, [])):
            result = image.results["detector"]["result"]
            assert [found["label"] for found in result["detections"]] == labels
            assert image.results["detector"]["version"] == "1"
            assert image.seconds < 30
        assert "broken_pixels" in (damaged.error_code, damaged.results["detector"]["error"]["code"])


def test_a_model_of_ones_own_is_used(app: Flask, start_worker: StartWorker, tmp_path: Path) -> None:
    model = onnx_models.write(
        tmp_path / "tins.onnx", "yolov8", [[16, 16, 16, 16, 1]], names="{0: 'jar', 1: 'tin', 2: 'box'}"
    )
    with app.app_context():
        white = encoded(plain("white", size=(640, 640)))
        job_id = create([white, white, white], ["detector"])
        start_worker(DETECTOR_MODEL=str(model), DETECTOR_THRESHOLD="0.7", DETECTOR_BATCH="2")
        wait_for(lambda: state_of(job_id) is not JobState.ONGOING, 90, what="the job")
        for image in images_of(job_id):
            result = image.results["detector"]["result"]
            assert (result["model"], result["threshold"]) == ("tins", 0.7)
            assert [found["label"] for found in result["detections"]] == ["tin"]
            assert result["detections"][0]["box"] == pytest.approx([80, 80, 160, 160], abs=1)


def test_a_plain_job_does_not_wait_for_detection(app: Flask, start_worker: StartWorker) -> None:
    with app.app_context():
        large = encoded(plain("grey", size=(3000, 2000)))
        detected = create([large] * 150, ["detector"])
        plain_one = create([photo("coffee.png")] * 10, [])
        start_worker(GPU_PAUSE_MIN_SECONDS="0", GPU_PAUSE_MAX_SECONDS="0", DECODE_PROCESSES="1")
        wait_for(lambda: state_of(plain_one) is JobState.COMPLETED, 60, what="the plain job", every=0.02)
        assert state_of(detected) is JobState.ONGOING


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_report_whose_builder_is_killed_is_finished_by_another_worker(app: Flask, start_worker: StartWorker) -> None:
    with app.app_context():
        job_id = create([photo("chelsea.png")] * 60, ["detector"])
        transactions.run(lambda session: reports.plan(session, job_id, "killed"))
        first = start_worker()
        page = report_files.PHOTOS_A_PAGE
        wait_for(lambda: reports.get(job_id).images_done >= page, 120, what="the first page", every=0.02)
        first.kill()
        killed = reports.get(job_id)
        assert killed.state is ReportState.BUILDING
        start_worker()
        wait_for(lambda: reports.get(job_id).state is ReportState.DONE, 120, what="the report")
        built = reports.get(job_id)
        assert built.claim > killed.claim
        with zipfile.ZipFile(io.BytesIO(storage.read(str(built.zip_storage_key)))) as archive:
            assert archive.testzip() is None
            assert len(archive.namelist()) == 3 + 60
