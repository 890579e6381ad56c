"""When, where and with what the photo was taken, as the camera wrote it (EXIF 2.32), and the place as numbers.

Cameras write zero denominators, ranges that do not exist and cut blocks; a value that cannot be is left out, never
guessed, and the rest is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from PIL.ExifTags import GPS, IFD, Base

from app.processors import pixels
from app.processors.image_file import ImageFile

NAME = "exif"
VERSION = "1"
NEEDS = "bytes"  # some formats keep the block behind the pixels

MOST_CHARACTERS = 200
# Every field there may be, in the order in which tables show them.
FIELDS = (
    "taken_at",
    "make",
    "model",
    "lens",
    "software",
    "orientation",
    "exposure_seconds",
    "f_number",
    "iso",
    "focal_length_mm",
    "focal_length_35mm",
    "flash_fired",
)
GPS_FIELDS = ("latitude", "longitude", "altitude_m", "direction_degrees", "taken_at")

Tags = Mapping[int, Any]


def execute(img_obj: ImageFile) -> dict[str, Any]:
    """Those of ``FIELDS`` that the photo has, and ``gps`` with those of ``GPS_FIELDS``; empty where there are none.

    ``taken_at`` has an offset only where the camera wrote one; the GPS time is UTC. Degrees are decimal, north and
    east positive; the altitude is in metres above the sea.
    """
    image, tags = img_obj.image, {}
    main = _block(lambda: dict(image.getexif()))
    photo = _block(lambda: image.getexif().get_ifd(IFD.Exif))
    gps = _block(lambda: image.getexif().get_ifd(IFD.GPSInfo))
    if main or photo:
        tags = _fields(main, photo) | {"orientation": pixels.orientation(image)}
    return _present(tags | {"gps": _present(_gps(gps))})


def _block(read: Callable[[], Tags]) -> Tags:
    try:
        return read()
    except Exception:  # noqa: BLE001 - Pillow raises what it likes on a corrupt block: KeyError, OSError, struct.error
        return {}


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, "", {})}


def _fields(main: Tags, photo: Tags) -> dict[str, Any]:
    flash = _number(photo.get(Base.Flash), 0, 255)
    return {
        "taken_at": _taken_at(main, photo),
        "make": _text(main.get(Base.Make)),
        "model": _text(main.get(Base.Model)),
        "lens": _text(photo.get(Base.LensModel)),
        "software": _text(main.get(Base.Software)),
        "exposure_seconds": _number(photo.get(Base.ExposureTime), 0, 86_400),
        "f_number": _number(photo.get(Base.FNumber), 0.1, 1000),
        "iso": _number(_first(photo.get(Base.ISOSpeedRatings)), 1, 10_000_000),
        "focal_length_mm": _number(photo.get(Base.FocalLength), 0.1, 100_000),
        "focal_length_35mm": _number(photo.get(Base.FocalLengthIn35mmFilm), 1, 100_000),
        "flash_fired": None if flash is None else bool(int(flash) & 1),
    }


def _taken_at(main: Tags, photo: Tags) -> str | None:
    """The shutter's time, else the digitisation's, else the file's; RFC 3339, its offset left out where unknown."""
    for block, tag, offset_tag in (
        (photo, Base.DateTimeOriginal, Base.OffsetTimeOriginal),
        (photo, Base.DateTimeDigitized, Base.OffsetTimeDigitized),
        (main, Base.DateTime, Base.OffsetTime),
    ):
        try:
            taken = datetime.strptime(_text(block.get(tag)) or "", "%Y:%m:%d %H:%M:%S")
        except ValueError:
            continue
        return taken.isoformat() + _offset(_text(photo.get(offset_tag)))
    return None


def _offset(text: str | None) -> str:
    try:
        return text if text and datetime.strptime(text, "%z") else ""
    except ValueError:
        return ""


def _gps(gps: Tags) -> dict[str, Any]:
    latitude = _degrees(gps.get(GPS.GPSLatitude), gps.get(GPS.GPSLatitudeRef), "NS", 90)
    longitude = _degrees(gps.get(GPS.GPSLongitude), gps.get(GPS.GPSLongitudeRef), "EW", 180)
    altitude = _number(gps.get(GPS.GPSAltitude), 0, 100_000)
    if altitude is not None and gps.get(GPS.GPSAltitudeRef) in (1, b"\x01"):
        altitude = -altitude
    is_placed = latitude is not None and longitude is not None
    return {
        "latitude": latitude if is_placed else None,
        "longitude": longitude if is_placed else None,
        "altitude_m": altitude,
        "direction_degrees": _number(gps.get(GPS.GPSImgDirection), 0, 360),
        "taken_at": _gps_time(gps),
    }


def _degrees(parts: Any, reference: Any, letters: str, most: int) -> float | None:
    """Degrees, minutes and seconds as one number; None where a part is missing, broken or out of its range."""
    letter = (_text(reference) or "").upper()[:1]
    if not isinstance(parts, tuple | list) or not 1 <= len(parts) <= 3 or not letter or letter not in letters:
        return None
    numbers = [_number(part, 0, limit) for part, limit in zip(parts, (most, 60, 60), strict=False)]
    if None in numbers:
        return None
    value = sum(number / 60**power for power, number in enumerate(numbers))
    if value > most:
        return None
    return round(-value if letter == letters[1] else value, 7)


def _gps_time(gps: Tags) -> str | None:
    day, clock = _text(gps.get(GPS.GPSDateStamp)), gps.get(GPS.GPSTimeStamp)
    if not day or not isinstance(clock, tuple | list) or len(clock) != 3:
        return None
    hours, minutes, seconds = (_number(part, 0, most) for part, most in zip(clock, (23, 59, 60), strict=True))
    try:
        start = datetime.strptime(day, "%Y:%m:%d").replace(tzinfo=UTC)
        taken = start + timedelta(hours=hours, minutes=minutes, seconds=seconds)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        return None
    return taken.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) and value else value


def _number(value: Any, least: float, most: float) -> float | int | None:
    """A finite number within its range, else None. A denominator of zero reads as NaN or fails."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if not math.isfinite(number) or not least <= number <= most:
        return None
    return int(number) if number.is_integer() else round(number, 7)


def _text(value: Any) -> str | None:
    """What a person can read: without the zeros that pad it, without control characters, of bounded length."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    shown = "".join(character for character in value.split("\x00")[0] if character.isprintable())
    return shown.strip()[:MOST_CHARACTERS] or None
