"""Types of the fields that clients send, and what is said where one cannot be taken."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, PlainValidator, StringConstraints
from pydantic_core import CoreSchema, core_schema

from app import times
from app.extensions import settings
from app.fetching import urls

METADATA_MOST_BYTES = 16 * 1024
# MariaDB's JSON type ends at 32 levels.
METADATA_MOST_LEVELS = 16
# No URL of so few characters can be too long in bytes, so most are not measured.
SURELY_SHORT = 500

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Says ``sentence`` wherever the type that it annotates refuses a value."""

    sentence: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source), custom_error_type="refused", custom_error_message=self.sentence
        )


class SentTime(NamedTuple):
    """A client's time, in UTC and as it was sent."""

    at: datetime
    as_sent: str


def _read_time(value: Any) -> SentTime:
    if not isinstance(value, (str, int, float)):
        raise ValueError("not a time")
    return SentTime(times.parse(value), str(value).strip())


def _is_short(url: str) -> str:
    if len(url) > SURELY_SHORT and len(url.encode()) > settings.FETCH_MAX_URL_BYTES:
        raise ValueError(f"longer than {settings.FETCH_MAX_URL_BYTES} bytes")
    return url


def has_no_controls(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("holds a control character")
    return text


def _is_bounded(metadata: dict[str, Any]) -> dict[str, Any]:
    _expect_storable(metadata, METADATA_MOST_LEVELS)
    try:
        size = len(json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:
        raise ValueError("holds a number that JSON does not know") from None
    if size > METADATA_MOST_BYTES:
        raise ValueError(f"longer than {METADATA_MOST_BYTES} bytes")
    return metadata


def _expect_storable(value: Any, levels: int) -> None:
    if not levels:
        raise ValueError(f"nested deeper than {METADATA_MOST_LEVELS} levels")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("holds a NUL character")
    if isinstance(value, dict):
        for name in value:
            _expect_storable(name, levels)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _expect_storable(inner, levels - 1)


def _is_absent(value: Any) -> None:
    if value is not None:
        raise ValueError("not supported yet")


Url = Annotated[
    str,
    StringConstraints(pattern=urls.PATTERN),
    Refusal("not an http(s) URL"),
    AfterValidator(_is_short),
]
StoreId = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64), AfterValidator(has_no_controls)
]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=255), AfterValidator(has_no_controls)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, max_length=100), AfterValidator(has_no_controls)]
Time = Annotated[
    SentTime,
    PlainValidator(_read_time, json_schema_input_type=str | int | float),
    Field(description="RFC 3339, `YYYY-MM-DD`, `YYYY-MM-DD HH:MM[:SS[.ffffff]]`, or epoch milliseconds. UTC if bare."),
]
RangeStart = Annotated[
    datetime,
    PlainValidator(times.parse, json_schema_input_type=str),
    Field(description="From this time on, itself included. Formats as `visit_time`."),
]
RangeEnd = Annotated[
    datetime,
    PlainValidator(times.parse_range_end, json_schema_input_type=str),
    Field(description="Up to this time, itself included; a date without a time means to the end of that day."),
]
Metadata = Annotated[dict[str, Any], AfterValidator(_is_bounded)]
NotYet = Annotated[None, PlainValidator(_is_absent, json_schema_input_type=None)]
