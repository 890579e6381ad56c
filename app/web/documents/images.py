"""Single images."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import AWAY, IDEMPOTENCY_KEY, OTHER_REQUEST, answer, error
from app.web.documents.files import FILE, NO_SUCH_FILE
from app.web.schemas import images as schemas

FORM = {
    "type": "object",
    "required": ["image"],
    "properties": {"image": {"type": "string", "format": "binary", "description": "The file."}},
}

create: dict[str, Any] = {
    "responses": {
        "200": schemas.ImageDone,
        "202": schemas.ImageAccepted,
        "400": schemas.DetailedError,
        "409": error(OTHER_REQUEST),
        "413": answer("More bytes than a body or an image may have", schemas.DetailedError),
        "503": AWAY,
    },
    "openapi_extensions": {
        "parameters": [IDEMPOTENCY_KEY],
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}},
    },
}
find: dict[str, Any] = {
    "responses": {
        "200": schemas.ImageRecords,
        "400": schemas.DetailedError,
        "503": AWAY,
    },
}
results: dict[str, Any] = {
    "responses": {
        "200": schemas.ImageDone,
        "202": schemas.ImageAccepted,
        "404": error("There is no such image"),
        "503": AWAY,
    }
}
view: dict[str, Any] = {"responses": {"200": FILE, "404": NO_SUCH_FILE, "503": AWAY}}
