"""The child: a program that is given images and processors over its standard input, a socket, and answers there.

Its limits are the kernel's, so that they hold in C code too: memory (RLIMIT_AS), and for each step the processor's time
(SIGXCPU) and, since a step may also wait for ever, the wall's (SIGALRM). A machine under load fails no image that way.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
import os
import resource
import signal
import socket
import sys
import time
import warnings
from typing import Any, cast

import numpy  # noqa: F401 - as ``detection``: loaded now and not within the first image's limits
from PIL import Image

from app import lifelines
from app.decoding import wire
from app.decoding.options import NOTE_BYTES, WALL_FACTOR
from app.errors import DecodeError
from app.processors import contract, detection, running  # noqa: F401
from app.processors.codes import OUT_OF_MEMORY
from app.processors.image_file import DecodeLimits
from app.processors.running import Worked

MEGABYTE = 1024 * 1024
NICENESS = 5  # the threads that drive hundreds of downloads go first


class Steps:
    """Notes what is about to be done, in a file that the parent reads after our death, and how long it may take."""

    def __init__(self, note: int, seconds: int) -> None:
        self._note = note
        self._seconds = seconds
        _, self._hard = resource.getrlimit(resource.RLIMIT_CPU)

    def __call__(self, what: str, images: int) -> None:
        os.pwrite(self._note, what.encode()[:NOTE_BYTES].ljust(NOTE_BYTES), 0)
        self._limit_processor(math.ceil(time.process_time() + self._seconds * images))
        signal.setitimer(signal.ITIMER_REAL, self._seconds * images * WALL_FACTOR)

    def end(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._limit_processor(resource.RLIM_INFINITY)

    def _limit_processor(self, seconds: int) -> None:
        if self._hard != resource.RLIM_INFINITY:
            seconds = self._hard if seconds == resource.RLIM_INFINITY else min(seconds, self._hard)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, self._hard))


class Broken:
    """Stands for a processor whose module cannot be loaded here."""

    NEEDS = "header"

    def __init__(self, name: str, reason: Exception) -> None:
        self.NAME = name
        self._reason = reason

    def execute(self, _img_obj: Any) -> Any:
        raise self._reason


def main() -> None:
    """``child PARENT OPTIONS NOTE``: the parent's process id, options as JSON, the descriptor of the file for notes."""
    parent, options, note = int(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    lifelines.die_with_parent()
    if os.getppid() != parent:
        return
    _limit(options["memory_megabytes"])
    limits = DecodeLimits(tuple(options["formats"]), options["max_pixels"])
    _hold_pillow_to(limits)
    _set_ups.update(options["processors"])
    link = socket.socket(fileno=os.dup(0))
    _be_silent()
    wire.send(link, "ready")
    try:
        _serve(link, limits, Steps(note, options["timeout_seconds"]))
    except (EOFError, ConnectionError):
        pass  # the parent has closed its end


def _limit(megabytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * MEGABYTE, megabytes * MEGABYTE))
    except (ValueError, OSError):
        pass  # a system that cannot, or a limit that is lower already
    os.nice(NICENESS)


def _hold_pillow_to(limits: DecodeLimits) -> None:
    """Also where a processor opens the image by itself: the formats that are allowed, and bombs are errors."""
    Image.ID[:] = limits.openers
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _be_silent() -> None:
    """C libraries print what files tell them; only Python's own tracebacks go to the log."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="replace")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def _serve(link: socket.socket, limits: DecodeLimits, steps: Steps) -> None:
    with link.makefile("rb") as stream:
        while True:
            request = wire.receive(stream)
            bodies = [wire.read(stream, length) for length in request["bodies"]]
            wire.send(link, _work_on(bodies, request["processors"], limits, steps))


def _work_on(bodies: list[bytes], wanted: list[tuple[str, str]], limits: DecodeLimits, steps: Steps) -> list[Any]:
    steps("loading the processors", len(bodies))
    processors = [_load(name, module) for name, module in wanted]
    try:
        found = running.work_on(bodies, processors, limits, steps)
    except MemoryError:
        reason = "Decoding it takes more memory than DECODE_MAX_MEMORY_MB."
        found = [DecodeError(OUT_OF_MEMORY, reason) for _ in bodies]
    steps.end()
    return [_as_reply(each) for each in found]


_set_ups: dict[str, dict[str, Any]] = {}  # by a processor's NAME


@functools.cache
def _load(name: str, module: str) -> contract.Processor:
    if not module:
        return contract.Missing(name)
    try:
        processor = importlib.import_module(module)
        if name in _set_ups:
            processor.set_up(**_set_ups[name])
        return cast(contract.Processor, processor)
    except Exception as error:  # noqa: BLE001 - whatever it is, this processor fails and its neighbours do not
        return Broken(name, error)


def _as_reply(found: Worked | DecodeError) -> dict[str, Any]:
    if isinstance(found, DecodeError):
        return {"code": found.code, "message": found.message}
    return {"measures": found.measures, "results": found.results}


if __name__ == "__main__":
    main()
