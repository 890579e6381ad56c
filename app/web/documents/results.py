"""Results of whole jobs."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import AWAY, BAD_REQUEST
from app.web.documents.jobs import NO_SUCH_JOB
from app.web.schemas import results as schemas

TEXT = {"type": "string"}


def _file(description: str, kind: str, schema: dict[str, str] = TEXT) -> dict[str, Any]:
    return {
        "responses": {
            "200": {"description": description, "content": {kind: {"schema": schema}}},
            "400": BAD_REQUEST,
            "404": NO_SUCH_JOB,
            "503": AWAY,
        }
    }


as_coco = _file("COCO: images, annotations, categories", "application/json", {"type": "object"})
as_megadetector = _file("MegaDetector's batch output, 1.4", "application/json", {"type": "object"})
as_json: dict[str, Any] = {
    "responses": {"200": schemas.ResultsAnswer, "400": BAD_REQUEST, "404": NO_SUCH_JOB, "503": AWAY}
}
as_json_lines = _file("A JSON object a line, one line an image", "application/x-ndjson")
as_csv = _file("A header, then a row an image", "text/csv")
as_parquet = _file(
    "A row an image, the columns of CSV with their types",
    "application/vnd.apache.parquet",
    {"type": "string", "format": "binary"},
)
