"""Batches of photos from cameras."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import AWAY, BAD_REQUEST, IDEMPOTENCY_KEY, OTHER_REQUEST, error
from app.web.schemas import batches as schemas

PHOTOS = {"type": "array", "minItems": 1, "items": schemas.PhotoBody.model_json_schema()}

upload: dict[str, Any] = {
    "responses": {
        "200": schemas.BatchCreated,
        "400": BAD_REQUEST,
        "409": error(OTHER_REQUEST),
        "413": error("More images than an upload, or more bytes than an upload or an image may have"),
        "503": AWAY,
    },
    "openapi_extensions": {
        "parameters": [IDEMPOTENCY_KEY],
        "requestBody": {"required": True, "content": {"application/json": {"schema": PHOTOS}}},
    },
}
find: dict[str, Any] = {
    "responses": {
        "200": schemas.BatchesAnswer,
        "400": BAD_REQUEST,
        "404": error("The page is past the end"),
        "503": AWAY,
    },
}
