"""What a processor is: a module that has ``NAME`` and ``execute(img_obj)``, and may say more of itself.

``VERSION`` is kept with each result ("1" where it is not said). ``NEEDS`` says what it looks at, and so where it runs:

- ``"header"``: size, format, mode. It runs on the thread that drives the downloads and must be as quick as a header.
- ``"pixels"``: ``img_obj.image`` has been decoded, once for all of these; it runs in a child process. They share the
  image, so one that wants to change it takes a copy.
- ``"bytes"``: the file as it is, an ``img_obj`` of its own; in a child process. One that says nothing is treated like
  that: it may open the image by itself, take its time, or crash, and only its own image suffers.

``execute_batch(img_objs)`` takes several images at once, for models, and returns their results in order.
``set_up(**options)`` is called once in each process before the first image, where the service has options for it.
``IS_MODEL = True`` says that it does what the pause stands for, which is then left out.
``LANE = "..."`` gives jobs that want it a queue, places and child processes of their own, since its images take so long
that others should not wait behind them, nor they behind others. A job has one lane: the first that its processors name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from app.errors import DecodeError

MOST_NAME_CHARACTERS = 64
PLAIN = "plain"  # the lane of all that names none
LANE = re.compile(r"[a-z0-9]{1,16}")


class Needs(StrEnum):
    HEADER = "header"
    PIXELS = "pixels"
    BYTES = "bytes"


class Processor(Protocol):
    """A module; ``version_of`` and ``needs_of`` know what it leaves out."""

    NAME: str

    def execute(self, img_obj: Any, /) -> Any: ...


class Missing:
    """Stands for a processor that a job names and this process does not have: another release created the job."""

    NEEDS = "header"
    VERSION = "unknown"

    def __init__(self, name: str) -> None:
        self.NAME = name

    def execute(self, _img_obj: Any) -> Any:
        raise DecodeError("unknown_processor", "The worker does not have this processor.")


def version_of(processor: Processor) -> str:
    return str(getattr(processor, "VERSION", "1"))


def needs_of(processor: Processor) -> Needs:
    return Needs(getattr(processor, "NEEDS", Needs.BYTES))


def runs_apart(processor: Processor) -> bool:
    """Whether it runs in a child process."""
    return needs_of(processor) is not Needs.HEADER


def is_model(processor: Processor) -> bool:
    """Whether it does the work that the pause stands for."""
    return bool(getattr(processor, "IS_MODEL", False))


def lane_of(processor: Processor) -> str:
    return str(getattr(processor, "LANE", PLAIN))


def by_name(registered: Iterable[Any]) -> MappingProxyType[str, Processor]:
    """Raises ValueError for what is no processor, and for two of one name."""
    known: dict[str, Processor] = {}
    for module in registered:
        name = getattr(module, "NAME", None)
        where = getattr(module, "__name__", module)
        if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME_CHARACTERS or not name.isprintable():
            raise ValueError(f"{where}: NAME must be 1 to {MOST_NAME_CHARACTERS} printable characters")
        if name in known:
            raise ValueError(f"{where}: there is another processor with the NAME {name!r}")
        if not callable(getattr(module, "execute", None)):
            raise ValueError(f"{where}: execute(img_obj) is missing")
        if getattr(module, "NEEDS", Needs.BYTES) not in list(Needs):
            raise ValueError(f"{where}: NEEDS must be one of {', '.join(Needs)}")
        if not LANE.fullmatch(lane_of(module)):
            raise ValueError(f"{where}: LANE must be 1 to 16 small letters and digits")
        if lane_of(module) != PLAIN and not runs_apart(module):
            raise ValueError(f"{where}: what NEEDS the header only is done at once, and has no LANE")
        known[name] = module
    return MappingProxyType(known)
