"""How good the photo itself is, as numbers; which of them is too little is for its reader to say.

All but the resolution are measured on luma (ITU-R BT.601), scaled down to at most 1,024 pixels on the longer side, so
that a figure means the same for a phone's 12 megapixels as for a webcam's one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image

from app.later import Later
from app.processors import pixels
from app.processors.image_file import ImageFile

if TYPE_CHECKING:
    import numpy as np
else:
    np = Later("numpy")

NAME = "quality"
VERSION = "1"
NEEDS = "pixels"

LONGER_SIDE = 1024
BLUR_WINDOW = 11  # pixels, the paper's
GLARING = 250  # of 255, on all three channels: the sensor was full


def execute(img_obj: ImageFile) -> dict[str, Any]:
    """``blur``, ``darkness``, ``glare`` from 0 to 1; ``sharpness`` from 0 up; ``megapixels``, ``width``, ``height``."""
    image = pixels.rgb(img_obj)
    width, height = image.size
    image.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.BILINEAR)
    luma = np.asarray(image.convert("L"), np.float32)
    return {
        "blur": _rounded(blur(luma)),
        "sharpness": _rounded(sharpness(luma)),
        "darkness": _rounded(1 - luma.mean() / 255),
        "glare": _rounded((np.asarray(image).min(axis=2) >= GLARING).mean()),
        "megapixels": _rounded(width * height / 1e6),
        "width": width,
        "height": height,
    }


def blur(luma: np.ndarray) -> float:
    """0 for sharp to 1 for blurred: F. Crété-Roffet et al., "The Blur Effect" (SPIE 6492, 2007).

    Blurring once more changes a sharp image a lot and a blurred one little; the worse of the two directions counts.
    Edges are measured by Sobel's operator, as ``skimage.measure.blur_effect`` does.
    """
    return max(_blur_along(luma), _blur_along(luma.T)) if min(luma.shape) > 3 else 0.0


def _blur_along(luma: np.ndarray) -> float:
    """By the edges between rows."""
    before, after = (np.abs(_edges(each))[1:, 1:] for each in (luma, _averaged(luma)))
    whole = float(before.sum(dtype=np.float64))
    lost = float(np.maximum(0, before - after).sum(dtype=np.float64))
    return (whole - lost) / whole if whole else 0.0


def _edges(luma: np.ndarray) -> np.ndarray:
    """Sobel's derivative down the columns, without the outermost pixels."""
    rows = luma[2:] - luma[:-2]
    return rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]


def _averaged(luma: np.ndarray) -> np.ndarray:
    """The mean of each pixel and its neighbours in the column, the edges mirrored."""
    half = BLUR_WINDOW // 2
    padded = np.pad(luma, ((half, half), (0, 0)), mode="symmetric")
    sums = np.cumsum(np.pad(padded, ((1, 0), (0, 0))), axis=0, dtype=np.float64)
    return ((sums[BLUR_WINDOW:] - sums[:-BLUR_WINDOW]) / BLUR_WINDOW).astype(np.float32)


def sharpness(luma: np.ndarray) -> float:
    """The variance of the Laplacian: J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (2000).

    Kernel 0 1 0 / 1 -4 1 / 0 1 0. Sharp photos have some hundreds and more, blurred ones below about 100.
    """
    if min(luma.shape) < 3:
        return 0.0
    middle = luma[1:-1, 1:-1]
    return float((luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * middle).var())


def _rounded(value: float) -> float:
    return round(float(value), 4)
