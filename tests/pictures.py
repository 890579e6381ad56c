"""Images for the tests of the processors: drawn here, and photos of real things that scikit-image ships.

The photos are free for every use: chelsea.png and coffee.png are CC0 (S. van der Walt, R. Michetti), astronaut.png
and rocket.jpg in the public domain (NASA, SpaceX); scikit-image's own documentation of ``skimage.data`` says so.
"""

from __future__ import annotations

import io
from pathlib import Path

import skimage
from PIL import Image

from app.processors import DecodeLimits, ImageFile

PHOTOS = Path(skimage.__file__).parent / "data"
LIMITS = DecodeLimits(("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF"), 100_000_000)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def image_file(source: Image.Image | bytes, format: str = "PNG", **options: object) -> ImageFile:
    body = source if isinstance(source, bytes) else encoded(source, format, **options)
    return ImageFile(body, LIMITS)


def photo(name: str) -> bytes:
    return (PHOTOS / name).read_bytes()


def plain(colour: object, *, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def with_orientation(image: Image.Image, orientation: int) -> bytes:
    """A file that shows ``image`` upright to those who honour its orientation, and is stored turned."""
    undone = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image if undone is None else image.transpose(undone), exif=exif)
