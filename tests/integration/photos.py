"""Photos as cameras send them."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image


def image(form: str = "JPEG", size: tuple[int, int] = (64, 48), colour: tuple[int, int, int] = (9, 90, 90)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, form)
    return file.getvalue()


def item(body: bytes | None = None, **changes: Any) -> dict[str, Any]:
    """One item of a batch; a change to None leaves the field out."""
    fields: dict[str, Any] = {
        "file": base64.b64encode(image() if body is None else body).decode(),
        "timestamp": "2019-10-11 17:20:05",
        "store_name": "BHARAT STORE",
        "camera_id": "cam-1",
        "barcode": "4006381333931",
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}
