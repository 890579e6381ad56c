"""What children may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ChildOptions:
    """``timeout_seconds`` is of processor time, for one step (its header, its pixels, one processor) of one image."""

    processes: int = 2
    timeout_seconds: int = 10
    memory_megabytes: int = 1024
    formats: tuple[str, ...] = ()
    max_pixels: int = 0
    # What a child finds in its environment: no password of ours.
    environment: Mapping[str, str] = field(default_factory=dict)
