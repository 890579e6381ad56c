"""A processor's result as JSON.

Allowed are None, truth values, whole numbers, numbers, texts, lists, tuples, and dictionaries with texts or whole
numbers as keys. NumPy's numbers count as numbers and its arrays as lists; what is not a number or infinite becomes
null. Everything else (bytes, times, sets, objects) is refused: the processor knows best how it reads as text.
"""

from __future__ import annotations

import json
import math
from typing import Any

MOST_LEVELS = 16  # MariaDB's JSON type ends at 32
LEAST_NUMBER, MOST_NUMBER = -(2**63), 2**64 - 1
MOST_BYTES = 512 * 1024


class NotJsonError(ValueError):
    """A result holds something that is not allowed; the message says where."""


def text_of(result: Any) -> str:
    """The result as JSON. Raises NotJsonError."""
    text = json.dumps(clean(result), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if len(text) > MOST_BYTES or len(text.encode()) > MOST_BYTES:
        raise NotJsonError(f"the result is longer than {MOST_BYTES:,} bytes")
    return text


def clean(value: Any, levels: int = MOST_LEVELS, place: str = "result") -> Any:
    """The value in plain JSON types. Raises NotJsonError."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, int):
        if not LEAST_NUMBER <= value <= MOST_NUMBER:
            raise NotJsonError(f"{place[:60]}: a whole number of more than 64 bits")
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if not levels:
        raise NotJsonError(f"{place[:60]}: nested deeper than {MOST_LEVELS} levels")
    if isinstance(value, dict):
        return {_key(key, place): clean(inner, levels - 1, f"{place}.{key}") for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(inner, levels - 1, f"{place}[{index}]") for index, inner in enumerate(value)]
    # NumPy's scalars and arrays, known by what they offer: this module need not load NumPy for those who do without.
    if type(value).__module__ == "numpy" and hasattr(value, "tolist") and value.dtype.kind in "biuf":
        return clean(value.tolist(), levels, place)
    raise NotJsonError(f"{place[:60]}: a {type(value).__name__} is not JSON")


def storable(text: str) -> str:
    """Without what databases refuse in a text: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _key(key: Any, place: str) -> str:
    if isinstance(key, str):
        return storable(key)
    if isinstance(key, bool) or not hasattr(key, "__index__"):
        raise NotJsonError(f"{place[:60]}: a key must be a text, not a {type(key).__name__}")
    return str(int(key))
