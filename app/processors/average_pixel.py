"""The average pixel: the mean over all pixels and colour channels, 0 (black) to 255 (white); without transparency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.later import Later
from app.processors import pixels
from app.processors.image_file import ImageFile

if TYPE_CHECKING:
    import numpy as np
else:
    np = Later("numpy")

NAME = "Average Pixel Value"
VERSION = "1"
NEEDS = "pixels"


def execute(img_obj: ImageFile) -> float:
    """Of an image in greys the mean of its greys, of any other the mean of red, green and blue."""
    return round(float(np.asarray(pixels.as_stored(img_obj)).mean()), 4)
