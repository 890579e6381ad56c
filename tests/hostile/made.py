"""Hostile images made here: cut, flipped, claiming too much, in too many pieces, or no images at all.

``bombs`` are those that kept Pillow busy for seconds (its header parsers walk in Python, one piece at a time).
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image

SIZE = (64, 48)
CLAIMED = 100_000  # pixels a side
# How Pillow writes each format that is read by default.
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {},
    "MPO": {"save_all": True},
    "PNG": {},
    "WEBP": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
}


def image(kind: str, seed: int = 0) -> bytes:
    """A good image of noise, the same for the same seed."""
    width, height = SIZE
    picture = Image.frombytes("RGB", SIZE, random.Random(seed).randbytes(3 * width * height))
    options = FORMATS[kind]
    if kind == "MPO":
        options = options | {"append_images": [picture.rotate(180)]}
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def cut(body: bytes) -> list[bytes]:
    """The body's first 1/8, 2/8 ... 7/8."""
    return [body[: len(body) * part // 8] for part in range(1, 8)]


def flipped(body: bytes, chance: random.Random, bits: int = 8) -> bytes:
    """The body with some bits turned, most of them in its header."""
    changed = bytearray(body)
    for _ in range(bits):
        end = len(changed) if chance.random() < 0.3 else min(len(changed), 256)
        changed[chance.randrange(end)] ^= 1 << chance.randrange(8)
    return bytes(changed)


# The parts of formats


def segment(marker: int, data: bytes) -> bytes:
    """A JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg(header: bytes, size: tuple[int, int] = SIZE) -> bytes:
    """A JPEG with ``header`` before its frame, and no pixels."""
    width, height = size
    frame = segment(0xC0, struct.pack(">BHHB", 8, height, width, 3) + b"\1\x22\0\2\x11\1\3\x11\1")
    return b"\xff\xd8" + header + frame + segment(0xDA, b"\3\1\0\2\x11\3\x11\0\x3f\0") + bytes(16)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(header: bytes = b"", size: tuple[int, int] = SIZE) -> bytes:
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    return start + header + chunk(b"IDAT", zlib.compress(b"x")) + chunk(b"IEND", b"")


def gif(header: bytes = b"", size: tuple[int, int] = SIZE, frames: int = 1) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, *SIZE, 0) + b"\x08\x01\x00\x00"
    return b"GIF89a" + struct.pack("<HHBBB", *size, 0, 0, 0) + header + frame * frames + b";"


def tiff(*entries: tuple[int, int, int, int | None], data: bytes = b"", onward: int = 0) -> bytes:
    """A TIFF with the usual tags of a grey image beside ``entries``: tag, type, count, value (None: ``data``)."""
    usual = [(256, 4, 1, SIZE[0]), (257, 4, 1, SIZE[1]), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    usual += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, SIZE[1]), (279, 4, 1, 64)]
    named = {entry[0] for entry in entries}
    tags = [*(entry for entry in usual if entry[0] not in named), *entries]
    behind = 8 + 2 + 12 * len(tags) + 4
    packed = b"".join(struct.pack("<HHII", *tag[:3], behind if tag[3] is None else tag[3]) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + packed + struct.pack("<I", onward) + data


def webp(size: tuple[int, int]) -> bytes:
    """A lossless WebP's header that claims ``size`` (16,383 a side at most)."""
    width, height = size
    data = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(16)
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data + bytes(len(data) & 1)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(size: tuple[int, int]) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIIIII", 1000, 0, 54, 40, *size, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(64)


def exif(fractions: int) -> bytes:
    """EXIF data whose resolution is ``fractions`` fractions, over as many JPEG segments as that takes."""
    data = struct.pack("<II", 300, 7) * fractions
    raw = tiff((282, 5, fractions, None), (296, 3, 1, 2), data=data)
    return b"".join(segment(0xE1, b"Exif\0\0" + raw[start : start + 65_000]) for start in range(0, len(raw), 65_000))


# What is made of them, by name: the bytes, and the code that they end with (None: they are read)

Made = dict[str, tuple[Callable[[], bytes], str | None]]

CLAIMS: Made = {
    "png": (lambda: png(size=(CLAIMED, CLAIMED)), "too_many_pixels"),
    "png widest": (lambda: png(size=(2**31 - 1, 2**31 - 1)), "too_many_pixels"),
    "png flat": (lambda: png(size=(CLAIMED, 0)), "broken_image"),
    "jpeg": (lambda: jpeg(b"", (65_535, 65_535)), "too_many_pixels"),
    "gif": (lambda: gif(size=(65_535, 65_535)), "too_many_pixels"),
    "bmp": (lambda: bmp((CLAIMED, CLAIMED)), "too_many_pixels"),
    "bmp upside down": (lambda: bmp((CLAIMED, -CLAIMED)), "too_many_pixels"),
    "tiff": (lambda: tiff((256, 4, 1, CLAIMED), (257, 4, 1, CLAIMED)), "too_many_pixels"),
    "tiff widest": (lambda: tiff((256, 4, 1, 2**32 - 1), (257, 4, 1, 2**32 - 1)), "too_many_pixels"),
    "webp": (lambda: webp((16_383, 16_383)), "too_many_pixels"),
    "just allowed": (lambda: png(size=(10_000, 10_000)), None),
    "one more": (lambda: png(size=(10_000, 10_001)), "too_many_pixels"),
}
ODDITIES: Made = {
    "gif of 5,000 frames": (lambda: gif(frames=5000), None),
    "tiff whose directory leads to itself": (lambda: tiff(onward=8), None),
    "tiff whose directory leads nowhere": (lambda: b"II*\0" + struct.pack("<I", 2**32 - 1), "broken_image"),
    "tiff that begins with its header": (lambda: b"II*\0" + struct.pack("<I", 0) + bytes(16), "broken_image"),
    "tiff of 65,000 samples": (lambda: tiff((277, 3, 1, 65_000)), "broken_image"),
    "png of text only": (lambda: png(chunk(b"tEXt", b"k\0" + b"v" * 1000) * 100), None),
    "png cut in its signature": (lambda: b"\x89PNG\r\n", "broken_image"),
    "one byte": (lambda: b"\xff", "not_an_image"),
    "NULs": (lambda: bytes(100_000), "not_an_image"),
    "zip": (lambda: b"PK\3\4" + bytes(200), "not_an_image"),
    "html": (lambda: b"<!DOCTYPE html><html><body>moved</body></html>", "not_an_image"),
    "pdf": (lambda: b"%PDF-1.7\n" + bytes(200), "not_an_image"),
    "svg": (lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9"/>', "not_an_image"),
    "svg of entities": (
        lambda: b'<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b SYSTEM "file:///etc/passwd">]><svg>&b;</svg>',
        "not_an_image",
    ),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", "not_an_image"),
    "xpm": (lambda: b"/* XPM */\nstatic char *x[] = {};", "not_an_image"),
    "ppm": (lambda: b"P6 9 9 255\n" + bytes(243), "not_an_image"),
    "heic": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "format_not_allowed"),
    "avif": (lambda: b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(64), "format_not_allowed"),
    "psd": (lambda: b"8BPS\0\1" + bytes(64), "format_not_allowed"),
    "icon": (lambda: b"\0\0\1\0\1\0" + bytes(64), "format_not_allowed"),
    "jpeg 2000": (lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64), "format_not_allowed"),
}
MEGABYTE = 2**20
PROFILE = chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(MEGABYTE - 100), 9))
TEXT = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(MEGABYTE - 100), 9))
# In brackets: the seconds and the memory that each took before headers had a limit.
BOMBS: Made = {
    "jpeg of fill bytes": (lambda: jpeg(b"\xff" * 30 * MEGABYTE), "broken_image"),  # 17 s
    "jpeg of comments": (lambda: jpeg(segment(0xFE, b"") * (7 * MEGABYTE)), "broken_image"),  # 12 s, 540 MB
    "jpeg of tables": (lambda: jpeg(segment(0xDB, (b"\0" + b"\1" * 64) * 1000) * 450), "broken_image"),  # 2.3 s
    "jpeg of fractions": (lambda: jpeg(exif(200_000)), None),  # 1 s; its resolution is not read, its size is
    "png of chunks": (lambda: png(chunk(b"prVt", b"") * (2 * MEGABYTE)), "broken_image"),  # 10 s, 240 MB
    "png of profiles": (lambda: png(PROFILE * 20_000), "broken_image"),  # 51 s
    "png of packed texts": (lambda: png(TEXT * 3000), "broken_image"),  # Pillow stops at 64 MB of them
    "gif of comments": (lambda: gif(b"!\xfe" + b"\1a" * (15 * MEGABYTE) + b"\0"), "broken_image"),  # 6 s, 1.3 GB
    "gif of junk": (lambda: gif(b"\1" * 30 * MEGABYTE), "broken_image"),  # 3 s
    "tiff of fractions": (  # 12 s, 870 MB
        lambda: tiff((282, 5, 3 * MEGABYTE, None), data=struct.pack("<II", 300, 7) * (3 * MEGABYTE)),
        "broken_image",
    ),
    "tiff of strips": (  # 0.8 s, 370 MB
        lambda: tiff((273, 4, 7 * MEGABYTE, None), data=b"\xff\x7f\1\0" * (7 * MEGABYTE)),
        "broken_image",
    ),
    "tiff of tags": (  # BigTIFF: 1.4 s
        lambda: (
            b"II+\0"
            + struct.pack("<HHQQ", 8, 0, 16, MEGABYTE)
            + struct.pack("<HHQQ", 40_000, 3, 1, 1) * MEGABYTE
            + bytes(8)
        ),
        "broken_image",
    ),
}
