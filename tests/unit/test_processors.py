"""What a processor may be and return, and what becomes of one that fails."""

from __future__ import annotations

import io
import json
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from PIL import Image

from app import processors
from app.errors import DecodeError
from app.processors import DecodeLimits, contract, jsonable, perimeter, running
from app.processors.jsonable import NotJsonError
from app.processors.running import Worked
from config import IMAGE_FORMATS

LIMITS = DecodeLimits(tuple(IMAGE_FORMATS.split(",")), 100_000_000)
MEASURES = {"width": 64, "height": 48, "perimeter": 224, "format": "PNG"}


def png(size: tuple[int, int] = (64, 48), colour: int = 7) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, colour).save(file, "PNG")
    return file.getvalue()


def cut_png() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 48), 50).save(file, "PNG")
    return file.getvalue()[:1500]


def processor(name: str, execute: Any, **more: Any) -> Any:
    return SimpleNamespace(NAME=name, execute=execute, **more)


def work_on(bodies: list[bytes], *wanted: Any, **more: Any) -> list[Any]:
    return running.work_on(bodies, wanted, LIMITS, **more)


def results_of(worked: Worked | DecodeError) -> dict[str, Any]:
    """But for how long each took, which is measured in seconds and never negative."""
    assert isinstance(worked, Worked) and worked.results
    entries = json.loads(worked.results)
    assert all(entry.pop("seconds") >= 0 for entry in entries.values() if "result" in entry)
    return entries


def test_image_is_measured_whatever_is_wanted() -> None:
    assert work_on([png()]) == [Worked(MEASURES)]
    assert results_of(work_on([png()], perimeter)[0]) == {"perimeter": {"version": "1", "result": MEASURES}}


def test_processor_that_fails_is_an_error_of_its_own_only() -> None:
    def fail(_file: Any) -> None:
        raise RuntimeError("no\0 way \ud800" + 500 * "x")

    def refuse(_file: Any) -> None:
        raise DecodeError("no_barcode", "There is none.")

    def starve(_file: Any) -> None:
        raise MemoryError

    wanted = [
        processor("bad", fail, VERSION=3),
        processor("coded", refuse),
        processor("hungry", starve),
        processor("object", lambda _file: {"at": datetime(2020, 1, 1)}),
        processor("good", lambda file: {"first": file.read(4)[1:].decode()}, VERSION="2.1"),
        contract.Missing("gone"),
    ]
    found = results_of(work_on([png()], *wanted)[0])
    assert found["good"] == {"version": "2.1", "result": {"first": "PNG"}}
    assert {name: entry["error"]["code"] for name, entry in found.items() if "error" in entry} == {
        "bad": "processor_failed",
        "coded": "no_barcode",
        "hungry": "out_of_memory",
        "object": "bad_result",
        "gone": "unknown_processor",
    }
    assert found["bad"]["version"] == "3"
    message = found["bad"]["error"]["message"]
    assert message.startswith("RuntimeError: no\ufffd way ?x") and len(message) == 300
    assert found["object"]["error"]["message"] == "result.at: a datetime is not JSON"


def test_pixels_are_decoded_once_and_only_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []
    real = Image.Image.load
    monkeypatch.setattr(processors.ImageFile, "decode", lambda self: loads.append(1) or real(self.image))
    mean = lambda file: numpy.asarray(file.image).mean()  # noqa: E731
    work_on([png()], processor("size", lambda file: file.image.size, NEEDS="header"), processor("raw", lambda _: 1))
    assert loads == []
    wanted = [processor(name, mean, NEEDS="pixels") for name in "abc"]
    assert [entry["result"] for entry in results_of(work_on([png()], *wanted)[0]).values()] == [7, 7, 7]
    assert loads == [1]


def test_cut_picture_counts_as_read_until_pixels_are_needed() -> None:
    assert work_on([cut_png()], processor("raw", lambda _file: 1))[0].measures == MEASURES
    ended = work_on([cut_png(), png()], processor("p", lambda file: file.image.getpixel((0, 0)), NEEDS="pixels"))
    assert isinstance(ended[0], DecodeError) and ended[0].code == "broken_pixels"
    assert results_of(ended[1])["p"]["result"] == 7
    opened = work_on([cut_png()], processor("seed", lambda file: Image.open(file).convert("RGB").size))
    assert "truncated" in results_of(opened[0])["seed"]["error"]["message"]


def test_processor_that_reads_or_closes_its_file_disturbs_no_other() -> None:
    wanted = [
        processor("closes", lambda file: file.close()),
        processor("reads", lambda file: len(file.read())),
        processor("pixels", lambda file: (file.read(4), file.image.getpixel((0, 0)))[1], NEEDS="pixels"),
        processor("again", lambda file: file.tell(), NEEDS="pixels"),
    ]
    found = results_of(work_on([png()], *wanted)[0])
    assert [entry.get("result", entry) for entry in found.values()] == [None, len(png()), 7, 0]


def test_images_that_wait_together_go_to_a_batch_and_a_bad_one_falls_alone() -> None:
    sizes: list[int] = []

    def execute(file: Any) -> int:
        if file.image.size == (1, 1):
            raise ValueError("too small")
        return file.image.width

    def execute_batch(files: list[Any]) -> list[int]:
        sizes.append(len(files))
        return [execute(file) for file in files]

    steps: list[tuple[str, int]] = []
    model = processor("model", execute, execute_batch=execute_batch, NEEDS="pixels")
    bodies = [png((width, 1)) for width in (2, 3, 4)]
    found = work_on(bodies, model, step=lambda what, images: steps.append((what, images)))
    assert [results_of(each)["model"]["result"] for each in found] == [2, 3, 4] and sizes == [3]
    assert steps == 3 * [("header", 1), ("pixels", 1)] + [("model", 3)]
    found = work_on([*bodies, png((1, 1)), b"no image"], model)
    assert [results_of(each)["model"].get("result") for each in found[:4]] == [2, 3, 4, None] and sizes == [3, 4]
    assert isinstance(found[4], DecodeError) and found[4].code == "not_an_image"


def test_what_is_json_is_said_clearly() -> None:
    value = {
        "tuple": (1, 2.5, None, True),
        7: float("nan"),
        "inf": float("inf"),
        "numpy": [numpy.float32(0.5), numpy.int64(3), numpy.bool_(True), numpy.float64("nan")],
        "array": numpy.arange(4, dtype=numpy.uint8).reshape(2, 2),
        "text": "grün\0\ud800",
    }
    assert json.loads(jsonable.text_of(value)) == {
        "tuple": [1, 2.5, None, True],
        "7": None,
        "inf": None,
        "numpy": [0.5, 3, True, None],
        "array": [[0, 1], [2, 3]],
        "text": "grün\ufffd?",
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": [b"x"]}, r"result\.a\[0\]: a bytes is not JSON"),
        ({1, 2}, "result: a set is not JSON"),
        ({(1, 2): 3}, "a key must be a text, not a tuple"),
        (numpy.array(["x"]), "a ndarray is not JSON"),
        (2**64, "more than 64 bits"),
        ("x" * jsonable.MOST_BYTES, "longer than"),
        (json.loads("[" * 17 + "]" * 17), "nested deeper"),
    ],
)
def test_what_is_no_json_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(NotJsonError, match=reason):
        jsonable.text_of(value)


def test_results_that_are_too_long_together_say_so() -> None:
    wanted = [processor(f"p{number}", lambda _file: "x" * 400_000) for number in range(4)]
    found = results_of(work_on([png()], *wanted)[0])
    assert ["error" in entry for entry in found.values()] == [False, False, True, True]
    assert found["p3"]["error"]["code"] == "bad_result"


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ([SimpleNamespace(execute=print)], "NAME must be"),
        ([processor("a\n", print)], "NAME must be"),
        ([processor("a", print), processor("a", print)], "another processor"),
        ([SimpleNamespace(NAME="a")], "execute"),
        ([processor("a", print, NEEDS="gpu")], "NEEDS must be one of header, pixels, bytes"),
        ([processor("a", print, LANE="Fast lane")], "LANE must be 1 to 16 small letters and digits"),
        ([processor("a", print, LANE="fast", NEEDS="header")], "has no LANE"),
    ],
)
def test_module_that_is_no_processor_stops_the_start(modules: list[Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        contract.by_name(modules)


def test_a_job_has_the_lane_of_the_first_processor_that_names_one() -> None:
    assert processors.lane(["info", "gone", "barcodes"]) == processors.lane([]) == "plain"
    assert processors.lane(["info", "detector"]) == "detector"
    assert processors.lanes() >= {"plain", "detector"}


def test_names_are_found_in_their_order() -> None:
    found = processors.find(["gone", "perimeter"])
    assert found[1] is perimeter and isinstance(found[0], contract.Missing)
    assert not contract.runs_apart(perimeter) and contract.runs_apart(processor("a", print))
