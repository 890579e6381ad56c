"""Manifests: lists of ids and URLs."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import AWAY, BAD_REQUEST, IDEMPOTENCY_KEY, OTHER_REQUEST, error
from app.web.schemas import manifests as schemas

_FILEPATH = {
    "type": "string",
    "description": "A file of the manifest folder, relative to it or absolute.",
    "examples": ["images.tsv"],
}
_FILE = {
    "type": "string",
    "format": "binary",
    "description": "The manifest: TSV or CSV with the columns id and url, or JSON lines; also with gzip.",
}


_BATCH = {
    "batch_size": {
        "type": "integer",
        "minimum": 0,
        "maximum": 1024,
        "default": 0,
        "description": "How many tensors an entry holds; with 0 nothing is queued.",
    },
    "dtype": {
        "enum": ["uint8", "float32"],
        "default": "uint8",
        "description": "Numbers from 0 to 255, or the same from 0 to 1.",
    },
    "encoding": {
        "enum": ["json", "base64"],
        "default": "json",
        "description": "`images` as nested lists; or `data`, base64 of the bytes in C order (little endian).",
    },
}


def _body(**more: Any) -> dict[str, Any]:
    named = {"type": "object", "required": ["filepath"], "properties": {"filepath": _FILEPATH, **more}}
    sent = {"type": "object", "required": ["file"], "properties": {"file": _FILE, **more}}
    return {
        "required": True,
        "content": {"application/json": {"schema": named}, "multipart/form-data": {"schema": sent}},
    }


_ERRORS: dict[str, Any] = {
    "400": BAD_REQUEST,
    "409": error(OTHER_REQUEST),
    "413": error("More rows or bytes than are taken; the sentence says how many, and where to go beyond"),
    "422": error("No data, no such file in the manifest folder, or a bad row, by its line"),
    "503": AWAY,
}
images_info: dict[str, Any] = {
    "responses": {"200": schemas.ImagesInfoAnswer, **_ERRORS},
    "openapi_extensions": {"parameters": [IDEMPOTENCY_KEY], "requestBody": _body()},
}
images_info_async: dict[str, Any] = {
    "responses": {"200": schemas.AcceptedAnswer, **_ERRORS},
    "openapi_extensions": {"parameters": [IDEMPOTENCY_KEY], "requestBody": _body()},
}
batch_predict: dict[str, Any] = {
    "responses": {"200": schemas.AcceptedAnswer, **_ERRORS},
    "openapi_extensions": {"parameters": [IDEMPOTENCY_KEY], "requestBody": _body(**_BATCH)},
}
ping: dict[str, Any] = {"responses": {"200": schemas.PingAnswer}}
