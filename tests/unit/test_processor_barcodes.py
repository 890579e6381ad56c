"""Barcodes drawn by ZXing itself, put into a real photo, turned, blurred and spoiled."""

from __future__ import annotations

import io

import numpy as np
import pytest
import zxingcpp
from PIL import Image, ImageFilter
from zxingcpp import BarcodeFormat

from app.processors import ImageFile, barcodes
from tests.pictures import image_file, photo

CODES = [
    (BarcodeFormat.EAN13, "4006381333931", "EAN-13", "04006381333931"),
    (BarcodeFormat.EAN8, "73513537", "EAN-8", "00000073513537"),
    (BarcodeFormat.UPCA, "012345678905", "UPC-A", "00012345678905"),
    (BarcodeFormat.UPCE, "01234565", "UPC-E", "00012345000065"),
    (BarcodeFormat.UPCE, "01245714", "UPC-E", "00012100004574"),
    (BarcodeFormat.UPCE, "01234531", "UPC-E", "00012300000451"),
    (BarcodeFormat.UPCE, "01234543", "UPC-E", "00012340000053"),
    (BarcodeFormat.QRCode, "https://shop.example/p?id=7&n=Kaese", "QR", None),
]


def drawn(kind: BarcodeFormat, text: str, scale: int = 3) -> Image.Image:
    return Image.fromarray(np.array(zxingcpp.create_barcode(text, kind).to_image(scale=scale)))


def on_photo(*codes: Image.Image) -> Image.Image:
    with Image.open(io.BytesIO(photo("coffee.png"))) as image:
        shelf = image.convert("RGB").resize((1200, 800))
    for row, code in enumerate(codes):
        shelf.paste(code.convert("RGB"), (300, 40 + row * 240))
    return shelf


def as_file(image: Image.Image) -> ImageFile:
    return image_file(image, "JPEG", quality=90)


@pytest.mark.parametrize(("kind", "text", "name", "gtin"), CODES)
def test_a_code_on_a_photo_is_read_with_its_printed_form_and_its_number(
    kind: BarcodeFormat, text: str, name: str, gtin: str | None
) -> None:
    (found,) = barcodes.execute(as_file(on_photo(drawn(kind, text))))["barcodes"]
    assert (found["format"], found["text"], found["gtin"]) == (name, text, gtin)
    assert barcodes.ZXING in found["engines"]
    (left, top), (right, bottom) = found["corners"][0], found["corners"][2]
    assert 300 <= left < right <= 800
    assert 30 <= top < bottom <= 400


def test_both_engines_read_the_same_code_as_one_entry() -> None:
    if barcodes.zbar() is None:
        pytest.skip("libzbar is not there")
    for kind, text, *_ in CODES:
        (found,) = barcodes.execute(as_file(on_photo(drawn(kind, text))))["barcodes"]
        assert (found["engines"], found["agreed"]) == (["zxing-cpp", "zbar"], True), text


def test_engines_that_read_different_letters_are_shown_to_disagree() -> None:
    if barcodes.zbar() is None:
        pytest.skip("libzbar is not there")
    found = barcodes.execute(as_file(on_photo(drawn(BarcodeFormat.QRCode, "Käse"))))["barcodes"]  # Latin-1, unsaid
    assert found[0]["text"] == "Käse"
    assert [code["agreed"] for code in found] == [False, False]


def test_one_engine_alone_agrees_with_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barcodes, "zbar", lambda: None)
    result = barcodes.execute(as_file(on_photo(drawn(BarcodeFormat.EAN13, "4006381333931"))))
    assert result["engines"] == ["zxing-cpp"]
    assert [(code["engines"], code["agreed"]) for code in result["barcodes"]] == [(["zxing-cpp"], None)]


def test_codes_of_several_formats_are_all_found() -> None:
    image = on_photo(drawn(BarcodeFormat.EAN13, "4006381333931"), drawn(BarcodeFormat.QRCode, "shelf 7"))
    assert {code["text"] for code in barcodes.execute(as_file(image))["barcodes"]} == {"4006381333931", "shelf 7"}


@pytest.mark.parametrize("kind", [BarcodeFormat.Code128, BarcodeFormat.DataMatrix])
def test_other_formats_are_left_alone(kind: BarcodeFormat) -> None:
    assert barcodes.execute(as_file(on_photo(drawn(kind, "PALLET77"))))["barcodes"] == []


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_code_is_read_whichever_way_it_is_turned(degrees: int) -> None:
    image = on_photo(drawn(BarcodeFormat.EAN13, "4006381333931")).rotate(degrees, expand=True)
    assert [code["text"] for code in barcodes.execute(as_file(image))["barcodes"]] == ["4006381333931"]


@pytest.mark.parametrize(("width", "radius"), [(154, 0.5), (170, 0.8), (230, 1.2), (234, 1.2)])
def test_the_sharpened_pass_reads_what_the_first_one_cannot(width: int, radius: float) -> None:
    small = drawn(BarcodeFormat.EAN13, "4006381333931").resize((width, 90), Image.Resampling.BILINEAR)
    shelf = on_photo(small.filter(ImageFilter.GaussianBlur(radius))).crop((200, 20, 900, 420))
    result = barcodes.execute(as_file(shelf))
    assert result["is_sharpened"]
    assert "4006381333931" in [code["text"] for code in result["barcodes"]]


def test_a_photo_without_codes_has_none() -> None:
    result = barcodes.execute(image_file(photo("chelsea.png")))
    assert (result["barcodes"], result["is_sharpened"]) == ([], False)
