"""Times as clients write them, and as this service shows them. Inside, a time is a naive ``datetime`` in UTC."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from app.errors import InvalidRequestError

EPOCH = datetime(1970, 1, 1)
# 9999-12-31 is how many clients say "without end"; before 1900 there is only the zero date of some library.
EARLIEST_YEAR = 1900
# The column that keeps a time as it was sent is this wide.
MOST_CHARACTERS = 64

# The offset's "+" becomes a space where a query string was not escaped, so "00:00:53 05:30" has an offset too.
_CALENDAR = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<minute>\d\d:\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<offset> ?[Zz]| ?[+-]\d\d(?::?\d\d)?| {1,2}\d\d:?\d\d)?)?",
    re.ASCII,
)
_MILLISECONDS = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,9})?", re.ASCII)


class UnreadableTimeError(InvalidRequestError, ValueError):
    """A time in none of the formats that are read; a ValueError too, so that pydantic's validators may raise it."""


def parse(value: str | int | float) -> datetime:
    """Read RFC 3339, ``YYYY-MM-DD``, ``YYYY-MM-DD HH:MM[:SS[.f]]`` or epoch milliseconds (number or text).

    Without an offset it is UTC. Digits past the microsecond are cut; a leap second ``:60`` is the second after.
    Raises UnreadableTimeError.
    """
    try:
        found = _from_text(value.strip()) if isinstance(value, str) else _from_milliseconds(value)
    except (ValueError, OverflowError) as error:
        raise _unreadable(value) from error
    if found.year < EARLIEST_YEAR or (isinstance(value, str) and len(value) > MOST_CHARACTERS):
        raise _unreadable(value)
    return found


def parse_range_end(value: str | int | float) -> datetime:
    """Read the last moment of a range, itself included: a date without a time means to the end of that day."""
    found = parse(value)
    if isinstance(value, str) and _is_date_only(value.strip()):
        return found.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return found


def rfc3339(value: datetime) -> str:
    """Show a naive UTC time as ``2020-09-02T00:00:53Z``, with three or six digits of fraction where it has one."""
    if not value.microsecond:
        return value.isoformat(timespec="seconds") + "Z"
    return value.isoformat(timespec="microseconds" if value.microsecond % 1000 else "milliseconds") + "Z"


def _from_text(text: str) -> datetime:
    match = _CALENDAR.fullmatch(text)
    if match is None:
        if _MILLISECONDS.fullmatch(text) is None:
            raise ValueError("no known format")
        return _from_milliseconds(float(text) if "." in text else int(text))
    date, minute, second, fraction, offset = match.groups()
    if minute is None:
        return datetime.fromisoformat(date)
    is_leap = second == "60"
    found = datetime.fromisoformat(f"{date}T{minute}:{'59' if is_leap else second or '00'}.{_microseconds(fraction)}")
    if is_leap:
        found += timedelta(seconds=1)
    return found - _offset(offset) if offset else found


def _microseconds(fraction: str | None) -> str:
    return fraction[:6].ljust(6, "0") if fraction else "000000"


def _offset(text: str) -> timedelta:
    """``Z``, ``+05:30``, ``-0530``, ``+05``, or ``05:30`` whose plus was lost."""
    digits = text.strip(" +-Zz").replace(":", "")
    hours, minutes = int(digits[:2] or 0), int(digits[2:] or 0)
    if hours > 23 or minutes > 59:
        raise ValueError("no such offset")
    shift = timedelta(hours=hours, minutes=minutes)
    return -shift if "-" in text else shift


def _from_milliseconds(value: int | float) -> datetime:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("not a number")
    return EPOCH + timedelta(milliseconds=value)


def _is_date_only(text: str) -> bool:
    return len(text) == 10 and text[4] == "-"


def _unreadable(value: object) -> UnreadableTimeError:
    return UnreadableTimeError(
        f"unreadable time {_shown(value)}: write 2020-09-02T00:00:53Z, 2020-09-02 00:00:53, 2020-09-02 or milliseconds"
    )


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return "of too many digits"  # past 4,300 of them Python refuses to write the number out
    return repr(value[:40] if isinstance(value, str) else value)[:50]
