"""The perimeter of an image in pixels: ``2 * (height + width)``; needs the header only."""

from __future__ import annotations

from typing import Any

from app.processors import jpeg_headers
from app.processors.image_file import DecodeLimits, ImageFile

NAME = "perimeter"
VERSION = "1"
NEEDS = "header"


def execute(img_obj: ImageFile) -> dict[str, Any]:
    """Width and height in pixels, the perimeter, and Pillow's name of the format."""
    image = img_obj.image
    return _measures(*image.size, image.format)


def glance(start: bytes, limits: DecodeLimits) -> dict[str, Any] | None:
    """What ``execute`` says of an image that begins with these bytes, if they tell it; None: ask ``execute``."""
    size = jpeg_headers.read_size(start) if limits.is_jpeg_first else None
    if size is None or size[0] * size[1] > limits.max_pixels:
        return None
    return _measures(*size, "JPEG")


def _measures(width: int, height: int, format_: str | None) -> dict[str, Any]:
    return {"width": width, "height": height, "perimeter": 2 * (height + width), "format": format_}
