"""The detector on photos of real things, and on models in every layout that it says it reads."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.errors import DecodeError, SettingError
from app.processors import detector
from app.processors.detection.boxes import Candidates, overlaps
from app.processors.detection.layouts import ssd_anchors
from tests import onnx_models
from tests.pictures import image_file, photo, plain, with_orientation

# By eye, to about ten pixels: left, top, width, height.
SEEN = {
    "chelsea.png": ("Cat", [0, 0, 425, 300]),
    "coffee.png": ("Coffee cup", [165, 25, 255, 300]),
    "astronaut.png": ("Person", [20, 0, 350, 512]),
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    detector.set_up()
    yield
    detector.set_up()


def overlap(one: list[float], other: list[float]) -> float:
    one_box, other_box = (
        np.array([left, top, left + width, top + height]) for left, top, width, height in (one, other)
    )
    return float(overlaps(one_box, other_box[None])[0])


@pytest.mark.parametrize("name", SEEN)
def test_the_thing_on_a_photo_is_found_where_it_is(name: str) -> None:
    label, box = SEEN[name]
    best, *others = detector.execute(image_file(photo(name)))["detections"]
    assert best["label"] == label
    assert best["score"] > 0.5
    assert overlap(best["box"], box) > 0.75
    assert all(other["score"] <= best["score"] for other in others)


@pytest.mark.parametrize("name", ["rocket.jpg", "clock_motion.png"])
def test_a_photo_of_what_the_model_does_not_know_has_nothing(name: str) -> None:
    assert detector.execute(image_file(photo(name)))["detections"] == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_in_pixels_of_the_upright_photo(orientation: int) -> None:
    with Image.open(io.BytesIO(photo("chelsea.png"))) as image:
        turned = with_orientation(image.convert("RGB"), orientation)
    result = detector.execute(image_file(turned))
    assert (result["width"], result["height"]) == (451, 300)
    assert overlap(result["detections"][0]["box"], SEEN["chelsea.png"][1]) > 0.75


@pytest.mark.parametrize("times", [3, 7])
def test_boxes_of_a_large_jpeg_are_in_its_own_pixels(times: int) -> None:
    with Image.open(io.BytesIO(photo("coffee.png"))) as image:
        large = image.convert("RGB").resize((600 * times, 400 * times))
    result = detector.execute(image_file(large, "JPEG"))
    assert (result["width"], result["height"]) == (600 * times, 400 * times)
    label, box = SEEN["coffee.png"]
    assert result["detections"][0]["label"] == label
    assert overlap(result["detections"][0]["box"], [edge * times for edge in box]) > 0.75


def test_a_batch_finds_what_its_images_have_alone() -> None:
    bodies = [photo(name) for name in ("chelsea.png", "rocket.jpg", "coffee.png")]
    together = detector.execute_batch([image_file(body) for body in bodies])
    for result, body in zip(together, bodies, strict=True):
        alone = detector.execute(image_file(body))
        assert [each["label"] for each in result["detections"]] == [each["label"] for each in alone["detections"]]
        for one, other in zip(result["detections"], alone["detections"], strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-3)
            assert overlap(one["box"], other["box"]) > 0.98


def test_the_threshold_is_kept_with_the_result() -> None:
    detector.set_up(threshold=0.99)
    result = detector.execute(image_file(photo("chelsea.png")))
    assert (result["threshold"], result["detections"]) == (0.99, [])


def test_a_cut_photo_is_an_error_and_not_an_empty_find() -> None:
    body = photo("chelsea.png")
    with pytest.raises(DecodeError):
        detector.execute(image_file(body[: len(body) // 2]))


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (3000, 2)])
def test_odd_sizes_are_read(size: tuple[int, int]) -> None:
    for found in detector.execute(image_file(plain("grey", size=size)))["detections"]:
        left, top, width, height = found["box"]
        assert 0 <= left <= left + width <= size[0]
        assert 0 <= top <= top + height <= size[1]


def test_a_model_is_opened_without_telling_anybody(tmp_path: Path) -> None:
    """onnxruntime would note an id for this machine, and send reports of its use to its maker."""
    env = os.environ | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    env.pop("ORT_DISABLE_TELEMETRY", None)
    code = "from app.processors import detector; detector._opened.model()"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_anchors_are_as_many_as_the_model_answers() -> None:
    assert ssd_anchors((300, 300)).shape == (1917, 4)


# A box at a quarter of the model's square, in each layout's own way of counting, of class 1.
LAYOUTS = {
    "yolov5": [16, 16, 16, 16, 1],
    "yolov8": [16, 16, 16, 16, 1],
    "end-to-end": [8, 8, 24, 24, 1],
}


def detect(tmp_path: Path, layout: str, image: Image.Image, rows: list[list[float]], **options: Any) -> dict[str, Any]:
    path = onnx_models.write(tmp_path / options.pop("file", f"{layout}.onnx"), layout, rows, **options)
    detector.set_up(model=str(path), threshold=0.3)
    return detector.execute(image_file(image))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_told_by_its_outputs(tmp_path: Path, layout: str, half: bool) -> None:
    names = "{0: 'animal', 1: 'person', 2: 'vehicle'}"
    image = plain("white", size=(640, 640))
    result = detect(tmp_path, layout, image, [LAYOUTS[layout]], names=names, half=half)
    (found,) = result["detections"]
    assert (result["model"], found["label"]) == (layout, "person")
    assert found["score"] == pytest.approx(1.0, abs=0.01)  # white is 1 to the model
    assert found["box"] == pytest.approx([80, 80, 160, 160], abs=0.5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_letterbox_bars_are_taken_off_again(tmp_path: Path, layout: str) -> None:
    # 64 x 64 holds the image as 64 x 32 below a bar of 16.
    (found,) = detect(tmp_path, layout, plain("white", size=(1280, 640)), [LAYOUTS[layout]])["detections"]
    assert found["box"] == pytest.approx([160, 0, 320, 160], abs=0.5)
    assert found["score"] == pytest.approx((1 + 114 / 255) / 2, abs=0.01)
    (found,) = detect(tmp_path, layout, plain("white", size=(640, 1280)), [LAYOUTS[layout]])["detections"]
    assert found["box"] == pytest.approx([0, 160, 160, 320], abs=0.5)


@pytest.mark.parametrize("layout", ["yolov5", "yolov8"])
def test_boxes_for_one_thing_become_one_and_other_classes_stay(tmp_path: Path, layout: str) -> None:
    rows = [[16, 16, 16, 16, 1], [17, 16, 16, 16, 1], [16, 16, 16, 16, 2], [40, 40, 8, 8, 1]]
    found = detect(tmp_path, layout, plain("white", size=(64, 64)), rows)["detections"]
    assert sorted(each["label"] for each in found) == ["class 1", "class 1", "class 2"]


def test_what_an_end_to_end_model_has_chosen_stays(tmp_path: Path) -> None:
    rows = [[8, 8, 24, 24, 1], [9, 8, 25, 24, 1]]
    assert len(detect(tmp_path, "end-to-end", plain("white"), rows)["detections"]) == 2


def test_edges_in_shares_of_the_square_are_read(tmp_path: Path) -> None:
    rows = [[0.25, 0.25, 0.5, 0.75, 0]]
    (found,) = detect(tmp_path, "end-to-end", plain("white", size=(640, 640)), rows)["detections"]
    assert found["box"] == pytest.approx([160, 160, 160, 320], abs=1)


@pytest.mark.parametrize("names", ['["a", "b", "c"]', '{"0": "a", "1": "b", "2": "c"}', "{0: 'a', 1: 'b', 2: 'c'}"])
def test_names_are_read_as_exporters_write_them(tmp_path: Path, names: str) -> None:
    (found,) = detect(tmp_path, "yolov8", plain("white", size=(64, 64)), [LAYOUTS["yolov8"]], names=names)["detections"]
    assert found["label"] == "b"


def test_names_may_stand_in_a_file_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "yolov8.names").write_text("tin\nbox\njar\n")
    (found,) = detect(tmp_path, "yolov8", plain("white", size=(64, 64)), [LAYOUTS["yolov8"]])["detections"]
    assert found["label"] == "box"


def test_one_class_is_told_from_end_to_end_by_the_number_of_rows(tmp_path: Path) -> None:
    rows = [[16, 16, 16, 16, 0]]
    (found,) = detect(tmp_path, "yolov5", plain("white", size=(64, 64)), rows, classes=1)["detections"]
    assert found["box"] == pytest.approx([8, 8, 16, 16], abs=0.5)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_model_of_a_fixed_batch_takes_any_number(tmp_path: Path, batch: int) -> None:
    path = onnx_models.write(tmp_path / "fixed.onnx", "yolov8", [LAYOUTS["yolov8"]], batch=batch)
    detector.set_up(model=str(path), threshold=0.3)
    images = [image_file(plain(colour, size=(64, 64))) for colour in ("white", "black", "white")]
    assert [len(result["detections"]) for result in detector.execute_batch(images)] == [1, 0, 1]


def test_an_open_input_is_as_large_as_the_model_was_trained(tmp_path: Path) -> None:
    image, rows = plain("white", size=(128, 128)), [LAYOUTS["yolov8"]]
    stated = detect(tmp_path, "yolov8", image, rows, size=None, metadata={"imgsz": "[64, 64]"})
    assert stated["detections"][0]["box"] == pytest.approx([16, 16, 32, 32], abs=0.5)
    unsaid = detect(tmp_path, "yolov8", image, rows, size=None, file="unsaid.onnx")
    assert unsaid["detections"][0]["box"] == pytest.approx([1.6, 1.6, 3.2, 3.2], abs=0.1)


@pytest.mark.parametrize(
    ("shape", "outputs"),
    [
        ([1, 3, 64, 64], [[1, 1000]]),
        ([1, 3, 64, 64], [[1, 3, 8, 8]]),
        ([1, 3, 64, 64], [[1, 10, 4], [1, 12, 5]]),
        ([1, 1, 64, 64], [[1, 300, 6]]),
        ([1, 10], [[1, 300, 6]]),
    ],
)
def test_a_model_that_is_no_detector_is_refused_in_a_sentence(
    tmp_path: Path, shape: list[int], outputs: list[list[int]]
) -> None:
    path = onnx_models.write_other(tmp_path / "other.onnx", shape, outputs)
    detector.set_up(model=str(path), threshold=0.3)
    with pytest.raises(SettingError, match="DETECTOR_MODEL"):
        detector.execute(image_file(plain("white")))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    detector.set_up(model=str(tmp_path / "text.onnx"), threshold=0.3)
    with pytest.raises(SettingError, match="cannot be opened"):
        detector.execute(image_file(plain("white")))


def test_numbers_that_are_none_are_no_boxes() -> None:
    boxes = np.array([[0, 0, 5, 5], [np.nan, 0, 5, 5], [0, 0, np.inf, 5], [5, 5, 5, 9], [9, 9, 2, 2]])
    best = Candidates(boxes, np.array([0.5, 0.9, 0.9, 0.9, np.nan]), np.zeros(5, int)).best(0.1)
    assert best.boxes.tolist() == [[0, 0, 5, 5]]
