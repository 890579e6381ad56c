"""Processors on images: what is measured always, and what was asked for beside it.

The one broad ``except`` of this service stands here: around one processor on one image, where failing is a result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import MESSAGE_MOST_CHARACTERS, DecodeError, ImageError
from app.processors import jsonable, perimeter
from app.processors.codes import OUT_OF_MEMORY
from app.processors.contract import Needs, Processor, needs_of, version_of
from app.processors.image_file import DecodeLimits, ImageFile

MOST_RESULTS_BYTES = 1024 * 1024  # of one image, all processors together

# What is about to be done, to how many images: whoever watches from outside knows how long it may take.
Step = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Worked:
    """``measures`` are width, height, perimeter, format; ``results`` is a JSON object by processor, or None."""

    measures: dict[str, Any]
    results: str | None = None


def work_on(
    bodies: Sequence[bytes], wanted: Sequence[Processor], limits: DecodeLimits, step: Step = lambda _what, _images: None
) -> list[Worked | DecodeError]:
    """Measure images of which the bodies are given, and run processors on them; each ends as read or with its error.

    Header first; pixels only if one of the processors needs them, once for all of these.
    """
    found: list[Worked | DecodeError] = []
    images: list[ImageFile] = []
    needs_pixels = any(needs_of(processor) is Needs.PIXELS for processor in wanted)
    for body in bodies:
        image = ImageFile(body, limits)
        try:
            step("header", 1)
            worked = Worked(perimeter.execute(image))
            if needs_pixels:
                step("pixels", 1)
                image.decode()
        except DecodeError as error:
            found.append(error)
        else:
            found.append(worked)
            images.append(image)
    if not wanted or not images:
        return found
    entries = [list(each) for each in zip(*_run_all(wanted, images, step), strict=True)]
    readable = iter(entries)
    return [Worked(each.measures, _joined(next(readable))) if isinstance(each, Worked) else each for each in found]


def _run_all(wanted: Sequence[Processor], images: Sequence[ImageFile], step: Step) -> Iterator[list[tuple[str, str]]]:
    """For each processor: its name and its entry, as JSON, for each image."""
    for processor in wanted:
        entries = _run(processor, images, step)
        yield [(processor.NAME, entry) for entry in entries]


def _run(processor: Processor, images: Sequence[ImageFile], step: Step) -> list[str]:
    is_shared = needs_of(processor) is not Needs.BYTES
    batch = getattr(processor, "execute_batch", None)
    if batch is not None and len(images) > 1:
        files = [_file(image, is_shared) for image in images]
        step(processor.NAME, len(files))
        started = time.monotonic()
        try:
            results = list(batch(files))
            if len(results) == len(files):
                seconds = (time.monotonic() - started) / len(files)
                return [_entry(processor, result, seconds) for result in results]
        except Exception:  # noqa: BLE001, S110 - one of them is to blame: alone each shows whether it is
            pass
    return [_run_one(processor, _file(image, is_shared), step) for image in images]


def _run_one(processor: Processor, image: ImageFile, step: Step) -> str:
    step(processor.NAME, 1)
    started = time.monotonic()
    try:
        result = processor.execute(image)
        return _entry(processor, result, time.monotonic() - started)
    except ImageError as error:
        return _error(processor, error.code, error.message)
    except MemoryError:
        return _error(processor, OUT_OF_MEMORY, "It needs more memory than DECODE_MAX_MEMORY_MB.")
    except Exception as error:  # noqa: BLE001 - a processor that fails is a result of that processor on this image
        return _error(processor, "processor_failed", f"{type(error).__name__}: {error}")


def _file(image: ImageFile, is_shared: bool) -> ImageFile:
    if not is_shared:
        return ImageFile(image.getvalue(), image.limits)
    image.seek(0)
    return image


def _entry(processor: Processor, result: Any, seconds: float) -> str:
    """``seconds`` are those of the processor alone; of a batch, each image's share."""
    try:
        text = jsonable.text_of(result)
    except jsonable.NotJsonError as error:
        return _error(processor, "bad_result", str(error))
    return f'{{"version":{json.dumps(version_of(processor))},"seconds":{seconds:.4f},"result":{text}}}'


def _error(processor: Processor, code: str, message: str) -> str:
    shown = jsonable.storable(message)[:MESSAGE_MOST_CHARACTERS]
    entry = {"version": version_of(processor), "error": {"code": code, "message": shown}}
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"))


def _joined(entries: Sequence[tuple[str, str]]) -> str:
    """One object of the entries; those that would make it too long to be stored say so instead."""
    parts, length = [], 0
    for name, entry in entries:
        if length + len(entry.encode()) > MOST_RESULTS_BYTES:
            version = json.loads(entry)["version"]
            message = f"The results of this image are longer than {MOST_RESULTS_BYTES:,} bytes."
            entry = json.dumps({"version": version, "error": {"code": "bad_result", "message": message}})
        length += len(entry.encode())
        parts.append(f"{json.dumps(name, ensure_ascii=False)}:{entry}")
    return "{" + ",".join(parts) + "}"
