"""Children of this process, for images that are worked on outside the conveyor: while a caller waits, or once more."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from flask import current_app

from app import processors
from app.decoding import ChildOptions, Children
from app.extensions import settings
from app.processors import detector
from app.processors.running import Worked
from config import Settings, without_settings

_starting = threading.Lock()


def work_on(body: bytes, names: Sequence[str] = ()) -> Worked:
    """Measure one image and run processors on it, exactly as a worker does, and wait for it.

    Decoders that crash or hang cost a child and no more. Raises DecodeError; a processor that fails is in the results.
    """
    return children().work_on(body, processors.find(names))


def children() -> Children:
    """The children of this process, started when there is work for them."""
    with _starting:
        if "children" not in current_app.extensions:
            current_app.extensions["children"] = Children(options(current_app.config["SETTINGS"]))
    return cast(Children, current_app.extensions["children"])


def options(of: Settings | None = None) -> ChildOptions:
    of = of or settings
    return ChildOptions(
        processes=of.DECODE_PROCESSES,
        timeout_seconds=of.DECODE_TIMEOUT_SECONDS,
        memory_megabytes=of.DECODE_MAX_MEMORY_MB,
        formats=of.image_formats,
        max_pixels=of.IMAGE_MAX_PIXELS,
        batch=of.DETECTOR_BATCH,
        processors={
            detector.NAME: {
                "model": of.DETECTOR_MODEL and str(Path(of.DETECTOR_MODEL).resolve()),
                "threshold": of.DETECTOR_THRESHOLD,
                "threads": of.DETECTOR_THREADS,
            }
        },
        environment=without_settings(),
    )
