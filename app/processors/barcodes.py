"""Barcodes of the shelf: EAN-13, EAN-8, UPC-A, UPC-E and QR, found by ZXing-C++ and, where libzbar is there, by ZBar.

A wrong read can have a valid check digit (one in ten has, by chance), so each code says which engines read it. The
formats are restricted since every further one costs time and wrong reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from PIL import Image, ImageFilter

from app.later import Later
from app.processors import pixels
from app.processors.image_file import ImageFile

if TYPE_CHECKING:
    import zxingcpp
else:
    zxingcpp = Later("zxingcpp")

NAME = "barcodes"
VERSION = "1"
NEEDS = "pixels"

ZXING, ZBAR = "zxing-cpp", "zbar"
# The GS1 names by those of ZXing-C++ and of ZBar.
NAMES = {"EAN13": "EAN-13", "EAN8": "EAN-8", "UPCA": "UPC-A", "UPCE": "UPC-E", "QRCode": "QR"}
ZBAR_NAMES = {"EAN13": "EAN-13", "EAN8": "EAN-8", "UPCA": "UPC-A", "UPCE": "UPC-E", "QRCODE": "QR"}
SHARPENED = ImageFilter.UnsharpMask(radius=2, percent=200, threshold=0)


@cache
def zbar() -> Any:
    """pyzbar, a thin layer over a library that the system has or has not; None where it has not."""
    try:
        from pyzbar import pyzbar  # noqa: PLC0415 - see app.later
    except ImportError:
        return None
    return pyzbar


@dataclass(frozen=True)
class _Read:
    engine: str
    format: str
    text: str
    corners: list[list[int]]  # pixels of the upright image

    @property
    def gtin(self) -> str | None:
        """The number of the goods in 14 digits, one for a code however it was printed or named; None for QR."""
        if self.format == "QR":
            return None
        return (_expanded(self.text) if self.format == "UPC-E" else self.text).zfill(14)


def execute(img_obj: ImageFile) -> dict[str, Any]:
    """``barcodes``: format, text, GTIN, corners (pixels, upright), the engines that read it, whether all agree.

    ``agreed`` is None with one engine only. Where nothing is found a second pass looks at the sharpened image.
    """
    image = pixels.grey(img_obj)
    reads = _read(image)
    is_sharpened = not reads
    if is_sharpened:
        reads = _read(image.filter(SHARPENED))
    found: dict[tuple[str | None, str], list[_Read]] = {}
    for read in reads:
        found.setdefault((read.gtin, "" if read.gtin else read.text), []).append(read)
    return {
        "barcodes": [_shown(same) for same in found.values()],
        "engines": [ZXING, ZBAR] if zbar() else [ZXING],
        "is_sharpened": is_sharpened and bool(found),
    }


def _shown(same: list[_Read]) -> dict[str, Any]:
    first = same[0]
    engines = [engine for engine in (ZXING, ZBAR) if any(read.engine == engine for read in same)]
    return {
        "format": first.format,
        "text": first.text,
        "gtin": first.gtin,
        "corners": first.corners,
        "engines": engines,
        "agreed": len(engines) == 2 if zbar() else None,
    }


def _read(image: Image.Image) -> list[_Read]:
    formats = [getattr(zxingcpp.BarcodeFormat, name) for name in NAMES]
    reads = [_zxing_read(code) for code in zxingcpp.read_barcodes(image, formats=zxingcpp.BarcodeFormats(formats))]
    if engine := zbar():
        symbols = [engine.ZBarSymbol[name] for name in ZBAR_NAMES]
        reads += [_zbar_read(code) for code in engine.decode(image, symbols=symbols)]
    return reads


def _zxing_read(code: zxingcpp.Barcode) -> _Read:
    name, text, place = NAMES[code.format.name], code.text, code.position
    if name in ("EAN-13", "UPC-A") and text.startswith("0"):  # it has no other mark
        name, text = "UPC-A", text[1:]
    elif name == "UPC-E":
        text = cast(dict[str, str], code.extra)["UPCE"]
    corners = (place.top_left, place.top_right, place.bottom_right, place.bottom_left)
    return _Read(ZXING, name, text, [[corner.x, corner.y] for corner in corners])


def _zbar_read(code: Any) -> _Read:
    left, top, width, height = code.rect
    corners = [[left, top], [left + width, top], [left + width, top + height], [left, top + height]]
    return _Read(ZBAR, ZBAR_NAMES[code.type], code.data.decode("utf-8", "replace"), corners)


def _expanded(upc_e: str) -> str:
    """The UPC-A that eight digits of UPC-E stand for (GS1 General Specifications, section 5.2.2.4.2)."""
    system, digits, last, check = upc_e[0], upc_e[1:6], upc_e[6], upc_e[7]
    if last in "012":
        middle = f"{digits[:2]}{last}0000{digits[2:]}"
    elif last == "3":
        middle = f"{digits[:3]}00000{digits[3:]}"
    elif last == "4":
        middle = f"{digits[:4]}00000{digits[4]}"
    else:
        middle = f"{digits}0000{last}"
    return system + middle + check
