"""The decoded pixels in the form that processors share: 8 bits a channel, and the way up that a person sees them.

Boxes, hashes and tensors all speak of the upright image, whichever way the camera was held (EXIF orientation). The
image of ``img_obj`` itself is never changed, since the next processor is given the same one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import ExifTags, Image

from app.later import Later
from app.processors.image_file import ImageFile

if TYPE_CHECKING:
    import numpy as np
else:
    np = Later("numpy")

SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
ONE_CHANNEL = ("1", "L", "LA", "La")
# Pillow converts these to one mode only, and from there to any.
STEPS = {"LAB": "RGB", "La": "LA"}


def rgb(img_obj: ImageFile) -> Image.Image:
    """The first frame as RGB, upright; what is transparent shows the colour that is stored beneath."""
    return _upright(img_obj.image, _in_8_bits(img_obj.image).convert("RGB"))


def grey(img_obj: ImageFile) -> Image.Image:
    """The first frame as luma (ITU-R 601), upright."""
    return _upright(img_obj.image, _in_8_bits(img_obj.image).convert("L"))


def as_stored(img_obj: ImageFile) -> Image.Image:
    """The first frame as L where the file has one channel, as RGB else; not turned."""
    image = _in_8_bits(img_obj.image)
    return image.convert("L" if image.mode in ONE_CHANNEL else "RGB")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or none that can be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - Pillow raises what it likes on a corrupt block; the pixels are there all the same
        return 1
    return value if value in range(1, 9) else 1


def _in_8_bits(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode in STEPS:
        return image.convert(STEPS[image.mode])
    # Pillow cuts these off at 255 where it converts them: nearly every pixel would be white.
    if image.mode in SIXTEEN_BITS:
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return Image.fromarray(_stretched(np.asarray(image, np.float64))) if image.mode in ("I", "F") else image


def _stretched(values: np.ndarray) -> np.ndarray:
    """What has no fixed range goes from black, its least value, to white, its greatest."""
    values = np.nan_to_num(values, posinf=0, neginf=0)
    values = values - values.min()
    return (values * (255 / (values.max() or 1))).astype(np.uint8)


def _upright(source: Image.Image, image: Image.Image) -> Image.Image:
    turned = orientation(source)
    return image if turned == 1 else image.transpose(TURNS[turned])


# What undoes each orientation (EXIF 2.32, tag 274).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
