"""The processors that look at pixels and header only: info, average pixel, tensor, perceptual hash, quality."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import scipy.fft
import skimage.measure
from PIL import Image, ImageEnhance, ImageFilter

from app.errors import DecodeError
from app.processors import average_pixel, info, perceptual_hash, quality, tensor
from tests.pictures import encoded, image_file, photo, plain, with_orientation

ALL = (info, average_pixel, tensor, perceptual_hash, quality)


def corners() -> Image.Image:
    """Red, green, blue and white quarters, so that every way of turning it is seen."""
    image = plain("white", size=(80, 40))
    for colour, place in (("red", (0, 0)), ("lime", (40, 0)), ("blue", (0, 20))):
        image.paste(colour, (*place, place[0] + 40, place[1] + 20))
    return image


def test_info_tells_size_dimension_format_mode_and_frames() -> None:
    body = encoded(plain("red", size=(64, 48)))
    assert info.execute(image_file(body)) == {
        "image_size": len(body),
        "image_dimension": [64, 48],
        "image_format": "PNG",
        "image_mode": "RGB",
        "image_frames": 1,
    }


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF"])
def test_info_counts_the_frames(format: str) -> None:
    frames = [plain(colour) for colour in ("red", "lime", "blue")]
    body = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    assert info.execute(image_file(body))["image_frames"] == 3


@pytest.mark.parametrize(
    ("image", "average"),
    [
        (plain("black"), 0.0),
        (plain("white"), 255.0),
        (plain((10, 20, 30)), 20.0),
        (plain(7, mode="L"), 7.0),
        (plain(0, mode="1"), 0.0),
        (plain((90, 0, 0, 0), mode="RGBA"), 30.0),
        (plain((7, 200), mode="LA"), 7.0),
        (Image.fromarray(np.full((4, 4), 128 * 256, np.uint16)), 128.0),
    ],
)
def test_average_pixel_is_the_mean_of_all_channels_without_transparency(image: Image.Image, average: float) -> None:
    assert average_pixel.execute(image_file(image)) == average


def test_average_pixel_of_a_palette_is_that_of_its_colours() -> None:
    assert average_pixel.execute(image_file(plain((10, 20, 30)).quantize(4), "GIF")) == 20.0


def test_average_pixel_of_a_photo_is_numpys() -> None:
    with Image.open(io.BytesIO(photo("chelsea.png"))) as image:
        assert average_pixel.execute(image_file(photo("chelsea.png"))) == pytest.approx(
            np.asarray(image).mean(), abs=1e-4
        )


def test_tensor_is_rgb_by_channels_and_64_by_64() -> None:
    result = tensor.execute(image_file(plain((1, 2, 3))))
    assert (result["shape"], result["dtype"]) == ([3, 64, 64], "uint8")
    array = tensor.as_array(result)
    assert [set(channel.ravel().tolist()) for channel in array] == [{1}, {2}, {3}]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tensor_and_hash_are_of_the_upright_image(orientation: int) -> None:
    turned = image_file(with_orientation(corners(), orientation))
    array = tensor.as_array(tensor.execute(turned))
    assert array[:, 0, 0].tolist() == [255, 0, 0]
    assert array[:, 0, 63].tolist() == [0, 255, 0]
    assert array[:, 63, 0].tolist() == [0, 0, 255]
    assert array[:, 63, 63].tolist() == [255, 255, 255]
    assert perceptual_hash.execute(turned) == perceptual_hash.execute(image_file(corners()))


def test_hash_is_the_median_of_the_lowest_frequencies() -> None:
    with Image.open(io.BytesIO(photo("coffee.png"))) as image:
        small = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float)
    low = scipy.fft.dct(scipy.fft.dct(small, axis=0), axis=1)[:8, :8]
    bits = "".join("1" if bit else "0" for bit in (low > np.median(low)).ravel())
    assert perceptual_hash.execute(image_file(photo("coffee.png")))["hash"] == f"{int(bits, 2):016x}"


def test_hash_knows_a_photo_again_and_tells_others_apart() -> None:
    with Image.open(io.BytesIO(photo("chelsea.png"))) as image:
        again = encoded(
            ImageEnhance.Brightness(image.convert("RGB").resize((200, 133))).enhance(1.2), "JPEG", quality=40
        )
    one, same, other = (
        perceptual_hash.execute(image_file(body))["hash"] for body in (photo("chelsea.png"), again, photo("coffee.png"))
    )
    assert perceptual_hash.distance(one, same) <= 6
    assert perceptual_hash.distance(one, other) >= 16


def test_blur_is_that_of_scikit_image() -> None:
    with Image.open(io.BytesIO(photo("coffee.png"))) as image:
        luma = np.asarray(image.convert("L"), np.float32)
    assert quality.blur(luma) == pytest.approx(skimage.measure.blur_effect(luma, h_size=11), abs=1e-4)


def test_a_blurred_photo_is_told_by_blur_and_sharpness() -> None:
    with Image.open(io.BytesIO(photo("chelsea.png"))) as image:
        soft = image.convert("RGB").filter(ImageFilter.GaussianBlur(4))
    sharp, blurred = (quality.execute(image_file(each)) for each in (photo("chelsea.png"), soft))
    assert blurred["blur"] > sharp["blur"] + 0.2
    assert blurred["sharpness"] < sharp["sharpness"] / 5


def test_darkness_glare_and_resolution_are_numbers() -> None:
    half_glaring = plain("black", size=(400, 300))
    half_glaring.paste("white", (0, 0, 200, 300))
    assert quality.execute(image_file(plain("black")))["darkness"] == 1.0
    assert quality.execute(image_file(plain("white")))["darkness"] == 0.0
    result = quality.execute(image_file(half_glaring))
    assert (result["darkness"], result["glare"]) == (0.5, 0.5)
    assert (result["megapixels"], result["width"], result["height"]) == (0.12, 400, 300)


def test_a_saturated_colour_is_no_glare() -> None:
    assert quality.execute(image_file(plain("yellow")))["glare"] == 0.0


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize("processor", ALL)
def test_the_smallest_images_have_finite_numbers(processor: object, size: tuple[int, int]) -> None:
    result = processor.execute(image_file(plain("grey", size=size)))  # type: ignore[attr-defined]
    numbers = [
        value for value in (result.values() if isinstance(result, dict) else [result]) if isinstance(value, float)
    ]
    assert all(math.isfinite(number) for number in numbers)


@pytest.mark.parametrize("processor", [average_pixel, tensor, perceptual_hash, quality])
def test_a_cut_picture_fails_where_its_pixels_are_needed(processor: object) -> None:
    body = photo("coffee.png")
    with pytest.raises(OSError):
        processor.execute(image_file(body[: len(body) // 2]))  # type: ignore[attr-defined]
    with pytest.raises(DecodeError):
        processor.execute(image_file(b"<html>"))  # type: ignore[attr-defined]


def test_no_processor_changes_the_image_that_the_next_one_is_given() -> None:
    shared = image_file(with_orientation(corners(), 6))
    alone = [processor.execute(image_file(with_orientation(corners(), 6))) for processor in ALL]
    assert [processor.execute(shared) for processor in ALL] == alone
    assert [processor.execute(shared) for processor in reversed(ALL)] == alone[::-1]
