"""What children may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Of the time on the wall a step may take so much more than of the processor's.
WALL_FACTOR = 3
NOTE_BYTES = 80  # the length of what a child notes that it is at


@dataclass(frozen=True)
class ChildOptions:
    """``timeout_seconds`` is of processor time, for one step (its header, its pixels, one processor) of one image."""

    processes: int = 2
    timeout_seconds: int = 10
    memory_megabytes: int = 1024
    formats: tuple[str, ...] = ()
    max_pixels: int = 0
    batch: int = 8  # images that a processor which takes several is given at once
    # By its NAME, what a processor's set_up is called with.
    processors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # What a child finds in its environment: no password of ours.
    environment: Mapping[str, str] = field(default_factory=dict)
