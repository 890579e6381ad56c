"""What is done to an image: pure modules with ``NAME``, ``VERSION`` and ``execute(img_obj)``, registered here."""

from __future__ import annotations

from app.processors import perimeter
from app.processors.image_file import DecodeLimits, ImageFile

REGISTERED = (perimeter,)

__all__ = ["REGISTERED", "DecodeLimits", "ImageFile", "perimeter"]
