"""What Pillow itself is held to in this process, whoever opens an image with it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

from PIL import Image, TiffImagePlugin

# Types of TIFF and EXIF values (TIFF 6.0, page 15; BigTIFF's) that become one Python object each. Pillow unpacks as
# many as the file claims, and a fraction takes 3 microseconds: 30 MB of them held a worker for 13 seconds.
FRACTIONS = (5, 10)
NUMBERS = (3, 4, 6, 8, 9, 11, 12, 13, 16)
MOST_FRACTIONS_A_TAG = 1000
MOST_NUMBERS_A_TAG = 100_000  # an offset for each strip or tile

Load = Callable[..., Any]


def set_up(max_pixels: int) -> None:
    """Bound Pillow's own reading; harmless when called again."""
    # Our callers' check is the stricter one; this is the second line for processors that open images by themselves.
    Image.MAX_IMAGE_PIXELS = max_pixels
    # Python keeps every distinct warning for good, and these hold numbers out of the files.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # What is wrong with a file is said by its code, not in the log by whoever sends thousands of them.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    dispatch = TiffImagePlugin.ImageFileDirectory_v2._load_dispatch
    for kinds, most in ((FRACTIONS, MOST_FRACTIONS_A_TAG), (NUMBERS, MOST_NUMBERS_A_TAG)):
        for kind in kinds:
            size, load = dispatch[kind]
            if not hasattr(load, "most_bytes"):
                dispatch[kind] = (size, _bounded(load, most * size))


def _bounded(load: Load, most_bytes: int) -> Load:
    def load_some(directory: Any, data: bytes, legacy_api: bool = True) -> Any:
        if len(data) > most_bytes:
            raise ValueError("a tag holds more values than any image needs")
        return load(directory, data, legacy_api)

    load_some.most_bytes = most_bytes  # type: ignore[attr-defined]
    return load_some
