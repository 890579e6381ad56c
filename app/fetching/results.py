"""What comes back for a URL, beside an ``app.errors.FetchError``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole, non-empty body. ``seconds`` is the time of lookups and transfers, without the wait for its turn."""

    key: Any
    body: bytes
    seconds: float
    content_type: str | None
    status: int


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Not attempted, since the host has stalled: ask again after ``delay_seconds``; no attempt is to be counted."""

    delay_seconds: float
