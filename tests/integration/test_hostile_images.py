"""Hostile images through a real worker: each ends as read or with its code, and the worker lives on.

The long form, with Pillow's own test images, PngSuite and thousands of mutants, is ``make hostile``.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import TiffImagePlugin

from app.errors import DecodeError
from app.processors import DecodeLimits, ImageFile, perimeter
from app.processors.codes import CODES
from app.processors.image_file import HEADER_CPU_SECONDS, HeaderTakesLongError
from config import IMAGE_FORMATS
from demo.host import Host
from testbed.processes import Process, wait_for
from tests.hostile import made
from tests.hostile.__main__ import peak_megabytes
from tests.integration.hands import add_stores, expect_books_balanced, submit, visit

LIMITS = DecodeLimits(tuple(IMAGE_FORMATS.split(",")), 100_000_000)
# 124 of the worker itself, 256 of bodies in flight, and those that were just handed over.
MOST_MEGABYTES = 700


# More than what a header may take of the thread that drives the downloads, and well within what it may take at all.
MANY_PIECES = made.jpeg(made.segment(0xFE, b"x") * 60_000)


def code_of(body: bytes, limits: DecodeLimits = LIMITS) -> str | None:
    try:
        perimeter.execute(ImageFile(body, limits))
    except DecodeError as error:
        return error.code
    return None


@pytest.mark.parametrize("name", made.BOMBS)
def test_header_that_is_a_bomb_holds_the_thread_for_a_moment_only(name: str) -> None:
    make, code = made.BOMBS[name]
    body = make()
    started = time.thread_time()
    assert code_of(body) == code
    assert time.thread_time() - started < 3 * HEADER_CPU_SECONDS


def test_long_header_that_is_no_error_is_told_from_one_that_is() -> None:
    """Whoever is in a hurry can have somebody else read it."""
    with pytest.raises(HeaderTakesLongError):
        perimeter.execute(ImageFile(MANY_PIECES, replace(LIMITS, header_cpu_seconds=0.001)))
    assert code_of(MANY_PIECES) is None


def test_header_is_not_judged_by_the_time_that_others_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process, or one on a busy machine, fails no good image: only this thread's processor time counts."""
    real = ImageFile.read
    limits = replace(LIMITS, header_cpu_seconds=0.2)

    def read_slowly(self: ImageFile, size: int | None = -1, /) -> bytes:
        time.sleep(0.01)
        return real(self, size)

    monkeypatch.setattr(ImageFile, "read", read_slowly)
    started = time.monotonic()
    assert code_of(made.jpeg(made.segment(0xFE, b"x") * 20), limits) is None
    assert time.monotonic() - started > 2 * limits.header_cpu_seconds


def test_many_values_of_a_tag_are_not_unpacked_and_the_usual_are() -> None:
    load = TiffImagePlugin.ImageFileDirectory_v2._load_dispatch
    assert {kind for kind, (_size, handler) in load.items() if not hasattr(handler, "most_bytes")} == {1, 2, 7}
    strips = made.tiff((273, 4, 50_000, None), data=bytes(200_000))
    assert code_of(strips) is None
    assert code_of(made.tiff((273, 4, 100_001, None), data=bytes(400_004))) == "broken_image"


def test_warnings_with_numbers_of_the_file_are_not_kept() -> None:
    """Python keeps each distinct warning for good: a slow leak that a sender controls."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        limits = DecodeLimits(("TIFF",), 1000_000)
        for count in range(2, 50):
            assert ImageFile(made.tiff((278, 3, count, None), data=bytes(2 * count)), limits).image
    assert caught == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_every_hostile_image_ends_read_or_coded_and_the_worker_lives(
    app: Flask, client: FlaskClient, start_worker: Callable[..., Process], tmp_path: Path
) -> None:
    chance = random.Random(1)
    bodies: dict[str, bytes] = {}
    expected: dict[str, str | None] = {}
    for kind in made.FORMATS:
        good = made.image(kind)
        bodies[f"{kind} good"], expected[f"{kind} good"] = good, None
        bodies |= {f"{kind} cut {part}": body for part, body in enumerate(made.cut(good), 1)}
        bodies |= {f"{kind} flipped {n}": made.flipped(good, chance) for n in range(15)}
    for table in (made.CLAIMS, made.ODDITIES, made.BOMBS):
        bodies |= {name: make() for name, (make, _code) in table.items()}
        expected |= {name: code for name, (_make, code) in table.items()}
    bodies["jpeg in many pieces"], expected["jpeg in many pieces"] = MANY_PIECES, None

    folder = tmp_path / "hostile"
    folder.mkdir()
    endings = ["jpg", "png", "svg", "zip", "pdf", "html", "heic", "psd"]  # names and types that lie
    names = [f"{number}.{endings[number % len(endings)]}" for number in range(len(bodies))]
    for name, body in zip(names, bodies.values(), strict=True):
        (folder / name).write_bytes(body)
    add_stores(app)
    worker = start_worker(FETCH_DOWNLOADS="16")
    with Host(folder) as host:
        job_id = submit(client, visit(images=[f"{host.url}/{name}" for name in names]))
        address = f"/api/jobs/{job_id}"
        wait_for(lambda: client.get(address).json["status"] != "ongoing", 60, what="hostile images", every=0.2)
    images = client.get(f"{address}/images?per_page=1000").json["results"]
    found = dict(zip(bodies, images, strict=True))

    assert {name: found[name]["error_code"] for name in expected} == expected
    assert {image["error_code"] for image in images} <= {None, *CODES}
    assert all(image["state"] == ("failed" if image["error_code"] else "done") for image in images)
    assert {image["attempts"] for image in images} == {1}, "an image that is broken stays so"
    # A cut picture counts as read where its header is whole, and then its size is right.
    cuts = [found[name] for name in found if " cut " in name]
    assert {(image["width"], image["height"]) for image in cuts if not image["error_code"]} == {made.SIZE}
    assert {image["error_code"] for image in cuts} == {None, "broken_image"}
    assert worker.is_alive and "ERROR" not in worker.text and "Traceback" not in worker.text
    assert peak_megabytes(worker.pid) < MOST_MEGABYTES
    expect_books_balanced(app)
