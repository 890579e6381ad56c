"""The perimeter of an image in pixels: ``2 * (height + width)``; needs the header only."""

from __future__ import annotations

from typing import Any

from app.processors.image_file import ImageFile

NAME = "perimeter"
VERSION = "1"
NEEDS = "header"


def execute(img_obj: ImageFile) -> dict[str, Any]:
    """Width and height in pixels, the perimeter, and Pillow's name of the format."""
    image = img_obj.image
    width, height = image.size
    return {"width": width, "height": height, "perimeter": 2 * (height + width), "format": image.format}
