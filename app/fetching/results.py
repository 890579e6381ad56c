"""What comes back for a URL, beside an ``app.errors.FetchError``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

# Is given the first piece of a body (up to 16 KB); what it makes of it, or None where it needs the whole of it.
Look = Callable[[bytes], Any]


class Fetched(NamedTuple):
    """A whole, non-empty body of ``size`` bytes. ``seconds`` are those of lookups and transfers, not of waiting.

    ``seen`` is what a look at its beginning told; where there was such a look, ``body`` is empty: it was not kept.
    """

    key: Any
    body: bytes
    size: int
    seconds: float
    status: int
    seen: Any = None


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Not attempted, since the host has stalled: ask again after ``delay_seconds``; no attempt is to be counted."""

    delay_seconds: float
