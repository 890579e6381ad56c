"""Every built-in processor on a photo in every mode that Pillow knows: the same photo, so much the same result."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.processors import REGISTERED, ImageFile, perceptual_hash
from app.processors.jsonable import text_of
from tests.pictures import image_file, photo

GREY = ["1", "L", "LA", "La", "I", "I;16", "I;16B", "F"]
COLOUR = ["P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
NO_FILE = ("La", "RGBa", "RGBX", "HSV")  # no format that is read here makes an image of these
SIZE = (160, 120)


@cache
def original() -> Image.Image:
    with Image.open(io.BytesIO(photo("coffee.png"))) as image:
        return image.convert("RGB").resize(SIZE)


def in_mode(mode: str) -> Image.Image:
    if mode.startswith("I;16"):
        grey = np.asarray(original().convert("L"), np.uint16) << 8
        return Image.frombytes(mode, SIZE, grey.astype(">u2" if mode.endswith("B") else "<u2").tobytes())
    return original().convert("LA").convert("La") if mode == "La" else original().convert(mode)


def file_in_mode(mode: str) -> ImageFile:
    if mode not in NO_FILE:
        found = image_file(in_mode(mode), "TIFF")
        assert found.image.mode == mode
        return found
    found = image_file(original(), "TIFF")
    found._image = in_mode(mode)
    found._image.format = "TIFF"
    return found


@pytest.mark.parametrize("mode", GREY + COLOUR)
def test_every_processor_reads_every_mode(mode: str) -> None:
    results: dict[str, Any] = {each.NAME: each.execute(file_in_mode(mode)) for each in REGISTERED}
    assert all(text_of(result) for result in results.values())
    assert results["perimeter"]["perimeter"] == 2 * sum(SIZE)
    assert results["info"]["image_mode"] == mode
    expected = np.asarray(original().convert("L") if mode in GREY else original()).mean()
    # A web palette has six levels a channel.
    assert results["Average Pixel Value"] == pytest.approx(expected, abs=12 if mode in ("1", "P", "PA") else 3)
    assert results["tensor"]["shape"] == [3, 64, 64]
    assert results["quality"]["width"] == SIZE[0]
    assert results["barcodes"]["barcodes"] == []
    hashes = [results["perceptual_hash"]["hash"], perceptual_hash.execute(image_file(original()))["hash"]]
    assert perceptual_hash.distance(*hashes) <= 6
