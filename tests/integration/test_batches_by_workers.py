"""Photos from cameras on their whole way: stored in S3 by the web, read there and worked on by a real worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from testbed.processes import wait_for
from testbed.s3 import ACCESS_KEY, S3, SECRET_KEY
from tests.integration import hands, photos

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def test_a_batch_in_s3_is_worked_on(
    make_app: Callable[..., Flask], start_worker: Callable[..., Any], s3: S3, tmp_path: Path
) -> None:
    options = {
        "STORAGE_URL": s3.url(tmp_path.name.replace("_", "-")),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    app = make_app(**options)
    client = app.test_client()
    worker = start_worker(**options)
    items = [photos.item(photos.image(size=(40 + number, 30))) for number in range(12)]
    path = "/upload_image_batch?processors=Average Pixel Value"
    job = client.post(path, json=[*items, photos.item(photos.image(size=(300, 300))[:1500])]).json["job_id"]

    def status(job_id: int) -> Any:
        return client.get(f"/api/status?jobid={job_id}").json

    wait_for(lambda: status(job)["status"] != "ongoing", 60, what="the batch")
    images = client.get(f"/api/jobs/{job}/images").json["results"]
    assert [image["perimeter"] for image in images[:12]] == [2 * (40 + number + 30) for number in range(12)]
    assert all(image["results"]["Average Pixel Value"]["result"] > 0 for image in images[:12])
    assert images[12]["error_code"] == "broken_pixels"
    assert status(job)["failed_images"][0]["seq"] == 12
    hands.expect_books_balanced(app)
    assert SECRET_KEY not in worker.text
