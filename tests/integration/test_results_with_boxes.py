"""GET /api/jobs/<id>/results.coco.json and .megadetector.json: boxes as other tools read them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from skimage import data

from app.domain import results
from app.domain.outcomes import Outcome
from app.processors import DecodeLimits, ImageFile, detector
from tests.integration import hands

LIMITS = DecodeLimits(("JPEG",), 10_000_000)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the detector finds on a real photo of a cup."""
    body = io.BytesIO()
    Image.fromarray(data.coffee()).save(body, "JPEG")
    found = detector.execute(ImageFile(body.getvalue(), LIMITS))
    assert found["detections"], "the sample photo shows nothing"
    return found


@pytest.fixture
def job(app: Flask, client: FlaskClient, found: dict[str, Any]) -> int:
    """Images with boxes, with none, with two labels, one that failed, one on which the detector failed, one it left."""
    nothing = found | {"detections": []}
    other = found | {"detections": [{"label": "Dog", "score": 0.9, "box": [60.0, 40.0, 300.0, 200.0]}]}
    entries = {
        0: {"result": found},
        1: {"result": nothing},
        2: {"result": other},
        4: {"error": {"code": "broken_image", "message": "cut"}},
    }

    def work(each: Any) -> Outcome:
        if each.seq == 3:
            return hands.failed(each)
        entry = entries.get(each.seq)
        done = hands.done(each)
        return done._replace(results=json.dumps({"detector": {"version": "1"} | entry})) if entry else done

    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=6))
    hands.work_off(app, work)
    return job


def test_coco_has_images_annotations_and_categories(client: FlaskClient, job: int, found: dict[str, Any]) -> None:
    coco = client.get(f"/api/jobs/{job}/results.coco.json").json
    assert [image["id"] for image in coco["images"]] == list(range(6))
    assert coco["images"][0] == {
        "id": 0,
        "file_name": "https://host/S00339218/0.jpg",
        "width": 600,
        "height": 400,
        "coco_url": "https://host/S00339218/0.jpg",
    }
    assert (coco["images"][5]["width"], coco["images"][5]["height"]) == (300, 200), "as measured, where nobody looked"
    names = {category["id"]: category["name"] for category in coco["categories"]}
    told = [
        {"label": names[each["category_id"]], "score": each["score"], "box": each["bbox"]}
        for each in coco["annotations"]
        if each["image_id"] == 0
    ]
    assert told == found["detections"]
    assert {each["image_id"] for each in coco["annotations"]} == {0, 2}
    ids = [each["id"] for each in coco["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    assert coco["annotations"][-1]["area"] == 60_000.0


def test_megadetector_has_relative_boxes_and_says_why_there_are_none(client: FlaskClient, job: int) -> None:
    told = client.get(f"/api/jobs/{job}/results.megadetector.json").json
    assert told["info"] == {"format_version": "1.4", "detector": "ssd_mobilenet_v2_oidv4"}
    boxes = [box for image in told["images"] for box in image["detections"] or []]
    assert {box["category"] for box in boxes} <= set(told["detection_categories"])
    assert all(0 <= part <= 1 for box in boxes for part in box["bbox"])
    [dog] = told["images"][2]["detections"]
    assert told["detection_categories"][dog["category"]] == "Dog"
    assert (dog["conf"], dog["bbox"]) == (0.9, [0.1, 0.1, 0.5, 0.5])
    assert told["images"][1]["detections"] == []
    assert [image.get("failure") for image in told["images"][3:]] == [
        "http_404: the server answered 404 Not Found",
        "broken_image: cut",
        "not examined: the job did not ask for the detector",
    ]


@pytest.mark.parametrize("form", ["coco", "megadetector"])
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_they_are_files_in_pages_filtered_and_404_where_there_is_no_job(
    client: FlaskClient, job: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client.get(f"/api/jobs/{job}/results.{form}.json")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="job-{job}-results.{form}.json"'
    monkeypatch.setattr(results, "ROWS_A_PAGE", 2)
    assert client.get(f"/api/jobs/{job}/results.{form}.json").json == answer.json
    assert len(client.get(f"/api/jobs/{job}/results.{form}.json?state=done").json["images"]) == 5
    assert client.get(f"/api/jobs/{job}/results.{form}.json?state=open").json["images"] == []
    assert client.get(f"/api/jobs/99/results.{form}.json").status_code == 404
