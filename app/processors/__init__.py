"""What is done to an image: pure modules with ``NAME``, ``VERSION`` and ``execute(img_obj)``."""

from __future__ import annotations

from app.processors import perimeter
from app.processors.image_file import DecodeLimits, ImageFile

# A processor counts once it stands here. Jobs name those they want by their NAME.
REGISTERED = (perimeter,)

__all__ = ["REGISTERED", "DecodeLimits", "ImageFile", "perimeter"]
