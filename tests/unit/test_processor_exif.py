"""EXIF and GPS blocks as cameras write them, and as they should not."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from app.processors import exif
from tests.pictures import encoded, image_file, plain

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

PLACE = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (IFDRational(19), IFDRational(4), IFDRational(3318, 100)),
    GPS.GPSLongitudeRef: "W",
    GPS.GPSLongitude: (IFDRational(72), IFDRational(52), IFDRational(0)),
}


def block(
    main: dict[int, Any] | None = None, photo: dict[int, Any] | None = None, gps: dict[int, Any] | None = None
) -> Image.Exif:
    tags = Image.Exif()
    tags.update(main or {})
    tags.get_ifd(IFD.Exif).update(photo or {})
    tags.get_ifd(IFD.GPSInfo).update(gps or {})
    return tags


def read(
    main: dict[int, Any] | None = None,
    photo: dict[int, Any] | None = None,
    gps: dict[int, Any] | None = None,
    *,
    format: str = "JPEG",
) -> dict[str, Any]:
    return exif.execute(image_file(plain("red"), format, exif=block(main, photo, gps)))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_camera_time_and_place_are_read_from_every_format_that_has_them(format: str) -> None:
    main = {
        Base.Make: "Canon\x00\x00",
        Base.Model: " EOS 5D ",
        Base.Orientation: 6,
        Base.DateTime: "2021:01:01 00:00:00",
    }
    photo = {
        Base.DateTimeOriginal: "2020:09:02 00:00:53",
        Base.OffsetTimeOriginal: "+05:30",
        Base.ExposureTime: IFDRational(1, 250),
        Base.FNumber: IFDRational(28, 10),
        Base.ISOSpeedRatings: 400,
        Base.FocalLength: IFDRational(50),
        Base.Flash: 0x19,
    }
    more = {GPS.GPSAltitude: IFDRational(25, 2), GPS.GPSAltitudeRef: b"\x01", GPS.GPSImgDirection: IFDRational(90)}
    clock = {GPS.GPSDateStamp: "2020:09:01", GPS.GPSTimeStamp: (IFDRational(18), IFDRational(30), IFDRational(53))}
    assert read(main, photo, PLACE | more | clock, format=format) == {
        "taken_at": "2020-09-02T00:00:53+05:30",
        "make": "Canon",
        "model": "EOS 5D",
        "orientation": 6,
        "exposure_seconds": 0.004,
        "f_number": 2.8,
        "iso": 400,
        "focal_length_mm": 50,
        "flash_fired": True,
        "gps": {
            "latitude": 19.0758833,
            "longitude": -72.8666667,
            "altitude_m": -12.5,
            "direction_degrees": 90,
            "taken_at": "2020-09-01T18:30:53Z",
        },
    }


def test_an_image_without_a_block_has_nothing() -> None:
    for format in ("JPEG", "PNG", "GIF", "BMP", "WEBP"):
        assert exif.execute(image_file(plain("red"), format)) == {}


@pytest.mark.parametrize(
    "photo",
    [
        {Base.ExposureTime: IFDRational(1, 0)},
        {Base.FNumber: IFDRational(0, 0)},
        {Base.FNumber: IFDRational(0, 1)},
        {Base.FocalLength: IFDRational(0, 10)},
        {Base.DateTimeOriginal: "0000:00:00 00:00:00"},
        {Base.DateTimeOriginal: "2020:13:45 99:99:99"},
        {Base.DateTimeOriginal: "    :  :     :  :  "},
        {Base.OffsetTimeOriginal: "+05:30"},
        {Base.LensModel: "\x01\x02\x00"},
    ],
)
def test_a_value_that_cannot_be_is_left_out(photo: dict[int, Any]) -> None:
    assert read({Base.Make: "Canon"}, photo) == {"make": "Canon", "orientation": 1}


def test_a_time_whose_offset_is_broken_keeps_the_time() -> None:
    photo = {Base.DateTimeOriginal: "2020:09:02 00:00:53", Base.OffsetTimeOriginal: "soon"}
    assert read({}, photo)["taken_at"] == "2020-09-02T00:00:53"


def test_without_the_shutters_time_another_one_stands_in() -> None:
    assert read({Base.DateTime: "2021:01:01 00:00:00"})["taken_at"] == "2021-01-01T00:00:00"


@pytest.mark.parametrize(
    "change",
    [
        {GPS.GPSLatitude: (IFDRational(19, 0), IFDRational(4), IFDRational(0))},
        {GPS.GPSLatitude: (IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0))},
        {GPS.GPSLatitude: (IFDRational(91), IFDRational(0), IFDRational(0))},
        {GPS.GPSLatitude: (IFDRational(90), IFDRational(0), IFDRational(1))},
        {GPS.GPSLatitude: (IFDRational(19), IFDRational(61), IFDRational(0))},
        {GPS.GPSLongitude: (IFDRational(181), IFDRational(0), IFDRational(0))},
        {GPS.GPSLatitudeRef: "X"},
        {GPS.GPSLatitudeRef: ""},
        {GPS.GPSLongitudeRef: "N"},
    ],
)
def test_half_a_place_is_no_place(change: dict[int, Any]) -> None:
    assert "gps" not in read({}, {}, PLACE | change)


@pytest.mark.parametrize(
    ("parts", "latitude"),
    [
        ((IFDRational(90), IFDRational(0), IFDRational(0)), -90),
        ((IFDRational(0), IFDRational(0), IFDRational(0)), 0),
        ((IFDRational(195, 10), IFDRational(0), IFDRational(0)), -19.5),
        ((IFDRational(19), IFDRational(305, 10), IFDRational(0)), -19.5083333),
    ],
)
def test_south_is_negative_and_the_poles_exist(parts: tuple[IFDRational, ...], latitude: float) -> None:
    gps = read({}, {}, PLACE | {GPS.GPSLatitudeRef: "S", GPS.GPSLatitude: parts})["gps"]
    assert gps["latitude"] == latitude


@pytest.mark.parametrize("cut", [8, 20, 40, 60, 100])
def test_a_cut_block_keeps_what_is_whole_and_never_fails(cut: int) -> None:
    whole = block({Base.Make: "Canon", Base.Model: "EOS"}, {Base.FNumber: IFDRational(28, 10)}, PLACE).tobytes()
    result = exif.execute(image_file(plain("red"), "JPEG", exif=whole[:cut]))
    assert set(result) <= {*exif.FIELDS, "gps"}


def test_a_block_that_points_into_itself_never_fails() -> None:
    entry = struct.pack("<HHII", IFD.Exif, 4, 1, 8) + struct.pack("<HHII", IFD.GPSInfo, 4, 1, 8)
    loop = b"Exif\x00\x00II*\x00" + struct.pack("<IH", 8, 2) + entry + struct.pack("<I", 8)
    assert set(exif.execute(image_file(plain("red"), "JPEG", exif=loop))) <= {*exif.FIELDS, "gps"}


def test_text_is_of_bounded_length_and_without_control_characters() -> None:
    make = read({Base.Make: "A\x1b[31m\r\nB" + "x" * 5000})["make"]
    assert make.startswith("A[31mB")
    assert len(make) == exif.MOST_CHARACTERS


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200), st.integers(0, 200))
def test_no_bytes_in_a_block_make_it_fail(noise: bytes, place: int) -> None:
    whole = block({Base.Make: "Canon"}, {Base.FNumber: IFDRational(28, 10)}, PLACE).tobytes()
    body = encoded(plain("red"), "JPEG", exif=whole[:place] + noise + whole[place + len(noise) :])
    result = exif.execute(image_file(body))
    place = result.get("gps", {})
    assert -90 <= place.get("latitude", 0) <= 90
    assert -180 <= place.get("longitude", 0) <= 180


def test_a_fraction_is_read_as_the_number_it_is() -> None:
    assert read({}, {Base.ExposureTime: IFDRational(1, 8000)})["exposure_seconds"] == float(Fraction(1, 8000))
