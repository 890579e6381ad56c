"""What files of each format that may be read are called, and served as."""

from __future__ import annotations

from typing import NamedTuple


class Format(NamedTuple):
    suffix: str
    content_type: str


# By Pillow's name of the format; MPO is a JPEG with further pictures behind the first.
FORMATS = {
    "JPEG": Format(".jpg", "image/jpeg"),
    "MPO": Format(".jpg", "image/jpeg"),
    "PNG": Format(".png", "image/png"),
    "WEBP": Format(".webp", "image/webp"),
    "GIF": Format(".gif", "image/gif"),
    "BMP": Format(".bmp", "image/bmp"),
    "TIFF": Format(".tif", "image/tiff"),
    "AVIF": Format(".avif", "image/avif"),
    "ICO": Format(".ico", "image/x-icon"),
    "JPEG2000": Format(".jp2", "image/jp2"),
    "PPM": Format(".ppm", "image/x-portable-pixmap"),
    "TGA": Format(".tga", "image/x-tga"),
}
