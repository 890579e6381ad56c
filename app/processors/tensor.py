"""The image as a small tensor for a model: RGB, upright, squeezed to 64x64, channel by channel (CHW)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from PIL import Image

from app.later import Later
from app.processors import pixels
from app.processors.image_file import ImageFile

if TYPE_CHECKING:
    import numpy as np
else:
    np = Later("numpy")

NAME = "tensor"
VERSION = "1"
NEEDS = "pixels"

SIZE = 64  # pixels, both ways


def execute(img_obj: ImageFile) -> dict[str, Any]:
    """``data`` is base64 of the bytes in C order: a third of the length of the same numbers written as JSON."""
    small = pixels.rgb(img_obj).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    array = np.ascontiguousarray(np.asarray(small, np.uint8).transpose(2, 0, 1))
    data = base64.b64encode(array.tobytes()).decode("ascii")
    return {"shape": list(array.shape), "dtype": "uint8", "data": data}


def as_array(result: dict[str, Any]) -> np.ndarray:
    """What ``execute`` returned, as an array again."""
    return np.frombuffer(base64.b64decode(result["data"]), result["dtype"]).reshape(result["shape"])
