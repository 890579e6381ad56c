"""Opaque marks of where a listing goes on; clients hand them back as they got them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from app.errors import InvalidRequestError

MOST_NUMBER = 2**63 - 1


def write(*key: str | int) -> str:
    """The cursor behind the row with this key."""
    text = json.dumps(key, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read(cursor: str, kinds: Sequence[type]) -> tuple[Any, ...]:
    """The key in a cursor, its parts being of ``kinds`` (str or int). Raises InvalidRequestError."""
    try:
        key = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise broken() from error
    if not isinstance(key, list) or [type(part) for part in key] != list(kinds):
        raise broken()
    if any(not 0 <= part <= MOST_NUMBER if isinstance(part, int) else "\0" in part for part in key):
        raise broken()
    return tuple(key)


def broken() -> InvalidRequestError:
    return InvalidRequestError("cursor: not one that this service gave out")
