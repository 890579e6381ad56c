"""What the file says about itself: bytes, width and height, format, mode, frames.

Counting frames walks through the whole file in some formats (GIF, TIFF), hence the need for its bytes.
"""

from __future__ import annotations

from typing import Any

from app.processors.image_file import ImageFile

NAME = "info"
VERSION = "1"
NEEDS = "bytes"


def execute(img_obj: ImageFile) -> dict[str, Any]:
    """Size in bytes, ``[width, height]`` in pixels as stored, Pillow's names of format and mode, number of frames."""
    image = img_obj.image
    return {
        "image_size": img_obj.getbuffer().nbytes,
        "image_dimension": list(image.size),
        "image_format": image.format,
        "image_mode": image.mode,
        "image_frames": getattr(image, "n_frames", 1),
    }
