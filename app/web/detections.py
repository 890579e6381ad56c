"""Boxes of whole jobs in the layouts that other tools read: COCO, and MegaDetector's batch output."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from typing import Any

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.domain import results
from app.domain.results import Export, Result
from app.models import Image
from app.processors import detector
from app.web.documents import results as documents
from app.web.requests import validated
from app.web.results import as_file, wanted_by
from app.web.schemas import results as schemas
from app.web.schemas.jobs import JobPath

blueprint = APIBlueprint("detections", __name__, abp_tags=[Tag(name="results", description="Whole jobs as files")])

NOT_EXAMINED = "not examined: the job did not ask for the detector"


@blueprint.get("/api/jobs/<int:job_id>/results.coco.json", **documents.as_coco)
@validated
def as_coco(path: JobPath, query: schemas.ResultsQuery) -> Response:
    """Detections of a job in the layout of COCO; an image's id is its place in the job."""
    wanted = wanted_by(query)
    images = results.read(path.job_id, wanted)
    pieces = _coco(images, lambda: results.read(path.job_id, wanted))
    return as_file(pieces, path.job_id, "coco.json", "application/json")


@blueprint.get("/api/jobs/<int:job_id>/results.megadetector.json", **documents.as_megadetector)
@validated
def as_megadetector(path: JobPath, query: schemas.ResultsQuery) -> Response:
    """Detections of a job in the layout of MegaDetector's batch output, which tools for camera traps read."""
    export = results.read(path.job_id, wanted_by(query))
    return as_file(_megadetector(export), path.job_id, "megadetector.json", "application/json")


class _Categories:
    """Numbers of labels, given from 1 on as they are met; so they stand behind what uses them."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, label: str) -> int:
        return self._numbers.setdefault(label, len(self._numbers) + 1)

    def items(self) -> Iterator[tuple[int, str]]:
        return ((number, label) for label, number in self._numbers.items())


def _coco(images: Export, again: Callable[[], Export]) -> Generator[bytes, None, None]:
    """The images first, then a second time through them for what is on them: neither list is ever held."""
    categories = _Categories()
    yield b'{"info":' + json.dumps({"description": f"job {images.job.id}"}).encode() + b',"images":['
    yield from _joined(_coco_image(row) for page in images.pages for row in page)
    yield b'],"annotations":['
    yield from _joined(_coco_annotations(again(), categories))
    shown = [{"id": number, "name": label} for number, label in categories.items()]
    yield b'],"categories":' + json.dumps(shown).encode() + b"}\n"


def _coco_image(row: Result) -> dict[str, Any]:
    found = _found(row.image) or {}
    return {
        "id": row.image.seq,
        "file_name": _name(row.image),
        # As it is looked at, which is how boxes are meant; as it is stored where nobody looked.
        "width": found.get("width", row.image.width),
        "height": found.get("height", row.image.height),
        **({"coco_url": row.image.url} if row.image.url else {}),
    }


def _coco_annotations(export: Export, categories: _Categories) -> Iterator[dict[str, Any]]:
    number = 0
    for page in export.pages:
        for row in page:
            for each in (_found(row.image) or {}).get("detections", ()):
                number += 1
                yield {
                    "id": number,
                    "image_id": row.image.seq,
                    "category_id": categories.number(each["label"]),
                    "bbox": each["box"],
                    "area": round(each["box"][2] * each["box"][3], 1),
                    "iscrowd": 0,
                    "score": each["score"],
                }


def _megadetector(export: Export) -> Generator[bytes, None, None]:
    categories, models = _Categories(), set[str]()
    yield b'{"images":['
    yield from _joined(_megadetector_image(row.image, categories, models) for page in export.pages for row in page)
    labels = {str(number): label for number, label in categories.items()}
    info = {"format_version": "1.4", "detector": ", ".join(sorted(models)) or "none"}
    yield b'],"detection_categories":' + json.dumps(labels).encode() + b',"info":' + json.dumps(info).encode() + b"}\n"


def _megadetector_image(image: Image, categories: _Categories, models: set[str]) -> dict[str, Any]:
    found = _found(image)
    if found is None:
        return {"file": _name(image), "detections": None, "failure": _failure(image)}
    models.add(found["model"])
    return {
        "file": _name(image),
        "detections": [
            {
                "category": str(categories.number(each["label"])),
                "conf": each["score"],
                "bbox": _relative(each["box"], found["width"], found["height"]),
            }
            for each in found["detections"]
        ],
    }


def _relative(box: list[float], width: int, height: int) -> list[float]:
    left, top, wide, high = box
    return [round(part, 4) for part in (left / width, top / height, wide / width, high / height)]


def _found(image: Image) -> dict[str, Any] | None:
    """What the detector found; None where it did not look, or could not."""
    found: dict[str, Any] | None = (image.results or {}).get(detector.NAME, {}).get("result")
    return found


def _failure(image: Image) -> str:
    error = (image.results or {}).get(detector.NAME, {}).get("error")
    if error:
        return f"{error['code']}: {error['message']}"
    return f"{image.error_code}: {image.error_message}" if image.error_code else NOT_EXAMINED


def _name(image: Image) -> str:
    """The file by the name that the client knows: uploaded ones by theirs, others by their URL."""
    return image.url or image.client_ref or f"{image.job_id}/{image.seq}"


def _joined(entries: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    separator = b"\n"
    for entry in entries:
        yield separator + json.dumps(entry, ensure_ascii=False).encode()
        separator = b",\n"
