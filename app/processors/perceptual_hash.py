"""A hash that stays nearly the same when the image is scaled, compressed or slightly changed: pHash.

The DCT hash of C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1,
in the form that the Python package ImageHash made common (``imagehash.phash``), of the upright image: 32x32 luma,
DCT-II, the 8x8 lowest frequencies, each compared to their median. Two images look alike where few of the 64 bits
differ; up to about 10 is usual for the same photo.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from PIL import Image

from app.later import Later
from app.processors import pixels
from app.processors.image_file import ImageFile

if TYPE_CHECKING:
    import numpy as np
else:
    np = Later("numpy")

NAME = "perceptual_hash"
VERSION = "1"
NEEDS = "pixels"

SAMPLES = 32
KEPT = 8


# Row k of the DCT-II without its scaling factors, which the comparison would not see but for the first row and column.
@cache
def _dct() -> np.ndarray:
    return 2 * np.cos(np.pi * np.outer(np.arange(SAMPLES), 2 * np.arange(SAMPLES) + 1) / (2 * SAMPLES))


def execute(img_obj: ImageFile) -> dict[str, str]:
    """``hash``: 16 hexadecimal digits."""
    small = pixels.grey(img_obj).resize((SAMPLES, SAMPLES), Image.Resampling.LANCZOS)
    low = (_dct() @ np.asarray(small, np.float64) @ _dct().T)[:KEPT, :KEPT]
    bits = np.packbits(low > np.median(low))
    return {"algorithm": "phash-dct-8x8", "hash": bits.tobytes().hex()}


def distance(one: str, other: str) -> int:
    """In how many bits two hashes differ, 0 to 64."""
    return (int(one, 16) ^ int(other, 16)).bit_count()
