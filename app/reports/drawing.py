"""Boxes and labels drawn onto a photo, to be read at its size whatever that is."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from app.processors import DecodeLimits, ImageFile, pixels
from app.reports import metadata
from app.reports.fonts import Fonts, Line

JPEG_QUALITY = 88
# A smaller photo is enlarged: a label that can be read would else hide what it names.
LEAST_LONGER_SIDE = 640
LEAST_TEXT, MOST_TEXT = 14, 160  # pixels
# Apart from each other also for most people who see colours differently (after Okabe and Ito, 2008).
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ffffff")

FONTS = Fonts()

Box = tuple[float, float, float, float]  # left, top, right, bottom


def annotated(body: bytes, detections: Sequence[dict[str, Any]], limits: DecodeLimits, fonts: Fonts = FONTS) -> bytes:
    """The upright photo with the detections' boxes, as JPEG with the photo's EXIF. Raises DecodeError."""
    file = ImageFile(body, limits)
    file.decode()
    image = pixels.rgb(file)
    scale = max(1.0, LEAST_LONGER_SIDE / max(image.size))
    if scale > 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    draw_boxes(image, detections, scale, fonts)
    drawn = io.BytesIO()
    exif = metadata.exif_for(file.image, image)
    # With colours as fine as the rest: thin coloured lines would else turn grey.
    image.save(drawn, "JPEG", quality=JPEG_QUALITY, subsampling=0, exif=exif)
    return drawn.getvalue()


def draw_boxes(
    image: Image.Image, detections: Sequence[dict[str, Any]], scale: float = 1.0, fonts: Fonts = FONTS
) -> None:
    """Draw onto an RGB image; boxes are in its pixels divided by ``scale``. The best detection comes on top."""
    draw = ImageDraw.Draw(image)
    longer = max(image.size)
    text_size = min(max(longer // 45, LEAST_TEXT), MOST_TEXT)
    thick = max(3, longer // 300)
    taken: list[Box] = []
    places = [_scaled(found["box"], scale) for found in detections]
    for found, box in reversed(list(zip(detections, places, strict=True))):
        draw.rectangle(box, outline=colour_of(found["label"]), width=thick)
    for found, box in zip(detections, places, strict=True):
        line = fonts.line(f"{' '.join(found['label'].split())} {found['score']:.2f}", text_size)
        _draw_label(draw, line, box, colour_of(found["label"]), image.size, taken)


def colour_of(label: str) -> str:
    """The same for a label in every photo of every report."""
    return COLOURS[colour_number(label)]


def colour_number(label: str) -> int:
    return hashlib.sha256(label.encode()).digest()[0] % len(COLOURS)


def _scaled(box: Sequence[float], scale: float) -> Box:
    left, top, width, height = (edge * scale for edge in box)
    return left, top, left + max(width, 1), top + max(height, 1)


def _draw_label(
    draw: ImageDraw.ImageDraw, text: Line, box: Box, colour: str, size: tuple[int, int], taken: list[Box]
) -> None:
    left, top, right, bottom = text.box
    margin = max(2, round((bottom - top) / 4))
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    place = _free_place(box, width, height, size, taken)
    taken.append(place)
    draw.rectangle(place, fill=colour)
    dark = sum(int(colour[at : at + 2], 16) * weight for at, weight in ((1, 0.299), (3, 0.587), (5, 0.114))) < 128
    start = (place[0] + margin - left, place[1] + margin - top)
    text.draw(draw, start, fill="white" if dark else "black")


def _free_place(box: Box, width: float, height: float, size: tuple[int, int], taken: list[Box]) -> Box:
    """Above the box, in its upper edge, below it or in its lower edge, within the image: the first not taken."""
    left = max(0.0, min(box[0], size[0] - width))
    tops = (box[1] - height, box[1], box[3], box[3] - height)
    places = [(left, top, left + width, top + height) for top in tops if 0 <= top <= size[1] - height]
    inside = max(0.0, min(box[1], size[1] - height))
    places.append((left, inside, left + width, inside + height))
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
