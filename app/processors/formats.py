"""What the formats of images are called elsewhere."""

from __future__ import annotations

# By Pillow's name of the format: media type, and the ending of file names. An MPO is known as the JPEG it begins as.
TYPES = {
    "JPEG": ("image/jpeg", ".jpg"),
    "MPO": ("image/jpeg", ".jpg"),
    "PNG": ("image/png", ".png"),
    "WEBP": ("image/webp", ".webp"),
    "GIF": ("image/gif", ".gif"),
    "BMP": ("image/bmp", ".bmp"),
    "TIFF": ("image/tiff", ".tif"),
    "AVIF": ("image/avif", ".avif"),
    "ICO": ("image/vnd.microsoft.icon", ".ico"),
    "JPEG2000": ("image/jp2", ".jp2"),
    "PPM": ("image/x-portable-anymap", ".ppm"),
    "TGA": ("image/x-tga", ".tga"),
}


def content_type(name: str) -> str:
    return TYPES[name][0]


def suffix(name: str) -> str:
    return TYPES[name][1]
