"""The upload page and its results."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import AWAY, BAD_REQUEST, IDEMPOTENCY_KEY, OTHER_REQUEST, error
from app.web.schemas import uploads as schemas

PAGE = {"description": "A page", "content": {"text/html": {"schema": {"type": "string"}}}}
ZIP = {"application/zip": {"schema": {"type": "string", "format": "binary"}}}
FILES = {
    "type": "object",
    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    "description": "Every field whose name begins with `file`: images, or zip archives of images.",
}
FORM = {"type": "object", "properties": {"email": {"type": "string"}, "submission": {"type": "string"}}}

show: dict[str, Any] = {"responses": {"200": PAGE, "503": AWAY}}
upload: dict[str, Any] = {
    "responses": {
        "200": schemas.UploadAnswer,
        "400": error("None of the files can be taken; the sentence says why the first cannot"),
        "409": error(f"The submission was handed in already. {OTHER_REQUEST}"),
        "413": error("More bytes than a submission or an image may have"),
        "503": AWAY,
    },
    "openapi_extensions": {
        "parameters": [IDEMPOTENCY_KEY],
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FILES}}},
    },
}
hand_in: dict[str, Any] = {
    "responses": {"200": schemas.HandedIn, "400": BAD_REQUEST, "409": error(OTHER_REQUEST), "503": AWAY},
    "openapi_extensions": {
        "parameters": [IDEMPOTENCY_KEY],
        "requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": FORM}}},
    },
}
results: dict[str, Any] = {
    "responses": {
        "200": {"description": "The zip; to a browser a page", "content": ZIP},
        "202": schemas.ProgressAnswer,
        "400": error("It was refused; the sentence says why"),
        "404": error("There is no such submission, or it has been deleted"),
        "500": error("The report could not be built"),
        "503": AWAY,
    },
}
download: dict[str, Any] = {
    "responses": {
        "200": {"description": "The file", "content": ZIP},
        "202": schemas.ProgressAnswer,
        "302": {"description": "A link to the bucket that holds for a while, where the service is set up so"},
        "400": error("It was refused; the sentence says why"),
        "404": error("There is no such submission or file"),
        "500": error("The report could not be built"),
        "503": AWAY,
    },
}
