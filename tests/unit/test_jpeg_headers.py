"""The short way to a JPEG's size says what Pillow says, or nothing."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from app.errors import DecodeError
from app.processors import DecodeLimits, ImageFile, perimeter
from tests import pictures
from tests.hostile import made, mutants
from tests.pictures import LIMITS

FIRST_PIECE = 16 * 1024


def by_pillow(body: bytes, limits: DecodeLimits = LIMITS) -> dict[str, object] | str:
    try:
        return perimeter.execute(ImageFile(body, limits))
    except DecodeError as error:
        return error.code


def with_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0  # orientation, dots an inch
    return pictures.encoded(pictures.plain("red", size=(64, 48)), "JPEG", exif=exif)


@pytest.mark.parametrize(
    "options",
    [{}, {"quality": 95, "subsampling": 0}, {"progressive": True}, {"optimize": True}, {"comment": b"shelf 3"}],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_plain_jpeg_is_told_from_its_first_bytes(mode: str, options: dict[str, object]) -> None:
    body = pictures.encoded(pictures.plain(9, size=(640, 481), mode=mode), "JPEG", **options)
    assert perimeter.glance(body[:FIRST_PIECE], LIMITS) == by_pillow(body)


def test_photo_with_exif_is_told_too() -> None:
    body = with_exif()
    assert b"Exif" in body
    assert perimeter.glance(body, LIMITS) == by_pillow(body)


@pytest.mark.parametrize(
    "body",
    [
        pictures.encoded(pictures.plain("red"), "PNG"),
        made.image("MPO"),
        made.jpeg(b"")[:30],
        made.jpeg(made.segment(0xC0, struct.pack(">BHHB", 8, 5, 5, 1) + b"\1\x11\0")),  # two frames
        made.jpeg(made.segment(0xDB, b"\0" * 60)),  # half a table
        made.jpeg(made.segment(0xE0, b"JFIF\0")),
        made.jpeg(b"\0"),  # something between the pieces
        made.jpeg(b"", size=(0, 48)),
        made.jpeg(b"", size=(20_000, 20_000)),
        b"",
    ],
)
def test_anything_unusual_is_left_to_pillow(body: bytes) -> None:
    assert perimeter.glance(body, LIMITS) is None


def test_jpeg_that_is_not_allowed_or_may_be_something_else_is_left_to_pillow() -> None:
    body = pictures.encoded(pictures.plain("red"), "JPEG")
    assert perimeter.glance(body, LIMITS) is not None
    assert perimeter.glance(body, DecodeLimits(("PNG",), 10**8)) is None
    # TGA has no signature: Pillow tries it on whatever comes.
    assert perimeter.glance(body, DecodeLimits(("TGA", "JPEG"), 10**8)) is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutants_are_told_as_pillow_tells_them() -> None:
    sources = [made.image(kind, seed) for kind in ("JPEG", "MPO") for seed in range(3)]
    sources += [pictures.photo("rocket.jpg"), with_exif()]
    told = 0
    for body in mutants.breed(sources, 3_000, seed=4):
        found = perimeter.glance(body[:FIRST_PIECE], LIMITS)
        if found is not None:
            told += 1
            assert found == by_pillow(body), body[:200]
    assert told > 300
