"""Sample store photos, drawn here: shelves, products and price labels, the same ones for the same seed every time.

Run ``python -m demo.photos FOLDER`` to look at them.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw, ImageFilter, ImageFont

COUNT = 60

# The sizes that stores send: old webcams, phones held both ways, tablets, a good camera.
SIZES: tuple[tuple[int, int], ...] = (
    *((320, 240), (640, 480), (480, 640), (800, 600), (1024, 768), (1280, 960), (960, 1280), (1280, 720)),
    *((1600, 1200), (1920, 1080), (1080, 1920), (2048, 1536)),
)
BIG_SIZES: tuple[tuple[int, int], ...] = ((2592, 1944), (3264, 2448), (3000, 4000), (4000, 3000))

# Format, the end of the file's name, how to save it; JPEG as often as it is met.
JPEG: tuple[str, str, dict[str, Any]] = ("JPEG", "jpg", {"quality": 82})
FORMATS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(JPEG, JPEG, JPEG, JPEG),
    ("JPEG", "jpeg", {"quality": 70, "progressive": True}),
    ("PNG", "png", {"compress_level": 1}),
    ("WEBP", "webp", {"quality": 75, "method": 0}),
    ("GIF", "gif", {}),
    ("BMP", "bmp", {}),
    ("TIFF", "tif", {"compression": "tiff_lzw"}),
)
# These grow with every pixel: a big one would be a test of the network.
BULKY = ("PNG", "GIF", "BMP", "TIFF")
MOST_BULKY_PIXELS = 800 * 600

BOXES = ((200, 60, 50), (240, 180, 40), (60, 120, 190), (70, 150, 80), (150, 80, 160), (235, 235, 230), (90, 60, 40))

HTML = b"<!DOCTYPE html>\n<html><head><title>Session expired</title></head><body>Please log in again.</body></html>\n"


@dataclass(frozen=True)
class Photo:
    """What to draw, and the name of its file."""

    name: str
    seed: int
    size: tuple[int, int]
    format: str
    options: dict[str, Any]


def plan(count: int = COUNT) -> list[Photo]:
    """The first ``count`` sample photos: every format, every size, a big one now and then."""
    return [_planned(seed) for seed in range(count)]


def _planned(seed: int) -> Photo:
    format_, end, options = FORMATS[seed % len(FORMATS)]
    is_big = seed % len(FORMATS) == 3  # a JPEG
    sizes = BIG_SIZES if is_big else SIZES
    if format_ in BULKY:
        sizes = tuple(size for size in SIZES if size[0] * size[1] <= MOST_BULKY_PIXELS)
    size = sizes[(seed // len(FORMATS) if is_big else seed * 5) % len(sizes)]
    return Photo(f"shelf-{seed:03}.{end}", seed, size, format_, options)


def encode(photo: Photo) -> bytes:
    """The photo as a file's bytes."""
    file = io.BytesIO()
    draw(photo.size, photo.seed).save(file, photo.format, **photo.options)
    return file.getvalue()


def draw(size: tuple[int, int], seed: int) -> Image.Image:
    """A picture of shelves, RGB. Big ones are drawn at a quarter and enlarged, as a phone's zoom does."""
    width, height = size
    if width * height > 4_000_000:
        return draw((width // 2, height // 2), seed).resize(size, Image.Resampling.BILINEAR)
    random = Random(seed)
    picture = Image.new("RGB", size, _shade((225, 220, 205), random.uniform(0.75, 1.05)))
    brush = ImageDraw.Draw(picture)
    shelves = random.randint(3, 5)
    step = height // shelves
    for shelf in range(shelves):
        _draw_shelf(brush, random, (0, shelf * step, width, (shelf + 1) * step))
    return _light(picture, random)


def _draw_shelf(brush: ImageDraw.ImageDraw, random: Random, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    board = bottom - (bottom - top) // 7
    x = left + random.randint(0, 20)
    while x < right:
        width = random.randint(right // 30, right // 12) + 4
        colour = _shade(random.choice(BOXES), random.uniform(0.7, 1.1))
        tall = top + random.randint((board - top) // 10, (board - top) // 2)
        for _ in range(random.randint(1, 4)):  # several of one kind stand side by side
            if random.random() < 0.93:  # now and then one is sold
                _draw_product(brush, (x, tall, x + width - 2, board), colour)
            x += width
        _draw_price(brush, random, (x - width, board + 2, x, bottom - 2))
        x += random.randint(0, right // 60)
    brush.rectangle((left, board, right, board + max(2, (bottom - top) // 40)), fill=(110, 85, 60))


def _draw_product(brush: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: tuple[int, int, int]) -> None:
    left, top, right, bottom = box
    brush.rounded_rectangle(box, radius=max(1, (right - left) // 8), fill=colour, outline=_shade(colour, 0.6))
    middle = (top + bottom) // 2
    brush.rectangle((left + 1, middle - (bottom - top) // 8, right - 1, middle), fill=_shade(colour, 1.5))
    brush.line((left + 2, top + 2, left + 2, bottom - 2), fill=_shade(colour, 1.3))


def _draw_price(brush: ImageDraw.ImageDraw, random: Random, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    if bottom - top < 8 or right - left < 12:
        return
    brush.rectangle(box, fill=(250, 248, 220), outline=(90, 90, 90))
    font = ImageFont.load_default(size=min((bottom - top) * 0.7, (right - left) / 3))
    brush.text((left + 2, top), f"{random.randint(5, 999)}", fill=(180, 20, 20), font=font)


def _light(picture: Image.Image, random: Random) -> Image.Image:
    """Brighter towards one side, and the grain of a camera, which gives the files the weight of photos."""
    lamp = Image.linear_gradient("L").rotate(random.choice((0, 90, 180, 270))).resize(picture.size)
    lit = Image.blend(picture, Image.merge("RGB", (lamp, lamp, lamp)), 0.18)
    tile = Image.frombytes("L", (256, 256), random.randbytes(256 * 256)).filter(ImageFilter.GaussianBlur(0.7))
    grain = Image.new("L", picture.size)
    for x in range(0, picture.width, tile.width):
        for y in range(0, picture.height, tile.height):
            grain.paste(tile, (x, y))
    return Image.blend(lit, Image.merge("RGB", (grain, grain, grain)), 0.06)


def _shade(colour: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    red, green, blue = (min(255, int(part * factor)) for part in colour)
    return red, green, blue


def broken() -> dict[str, bytes]:
    """Files that are no pictures although their names say so, each in a way that stores have sent."""
    whole = encode(_planned(0))
    return {
        "cut-in-its-header.jpg": whole[:40],
        "login-page.jpg": HTML,
        "empty.jpg": b"",
        "note.png": b"camera 3 was off today, sorry\n",
    }


def write_all(folder: Path, count: int = COUNT) -> Iterator[str]:
    """Write ``count`` photos and the broken ones into ``folder``; gives each name once it is written."""
    for photo in plan(count):
        (folder / photo.name).write_bytes(encode(photo))
        yield photo.name
    for name, content in broken().items():
        (folder / name).write_bytes(content)
        yield name


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for written in write_all(target):
        print(target / written)
