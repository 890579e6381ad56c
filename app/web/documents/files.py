"""Stored files."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import AWAY, error

FILE = {
    "description": "The file, with the type that its header says",
    "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    "headers": {"ETag": {"description": "Its checksum; it never changes", "schema": {"type": "string"}}},
}

NO_SUCH_FILE = error("There is no such file")

get: dict[str, Any] = {
    "responses": {
        "200": FILE,
        "206": {**FILE, "description": "The part that Range asked for"},
        "302": {"description": "A link to the bucket that holds for a while, where the service is set up so"},
        "304": {"description": "What If-None-Match or If-Modified-Since know is still so"},
        "404": NO_SUCH_FILE,
        "416": error("The file has no such part"),
        "503": AWAY,
    },
}
