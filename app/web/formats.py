"""How numbers and times are written on pages; each kind in one place."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

from markupsafe import Markup

from app import times

NOTHING = "\u2013"  # a dash
UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def number(value: float | None, digits: int = 0) -> str:
    """``12,345``"""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def counted(value: int, noun: str) -> str:
    """``1 job``, ``2 jobs``"""
    return f"{number(value)} {noun}{'' if value == 1 else 's'}"


def share(part: float, whole: float) -> str:
    """``12.3 %``; 100 and 0 only where it is all or nothing."""
    if not whole:
        return NOTHING
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{min(percent, 99.9) if part < whole else percent:.1f} %".replace(".0 %", " %")


def moment(value: datetime | None) -> str:
    """``2020-09-02 00:00:53``, in UTC; machines find it in full."""
    if value is None:
        return NOTHING
    shown = value.strftime("%H:%M:%S")
    day = f"{value.year:04}-{value.month:02}-{value.day:02}"
    return Markup('<time datetime="{}" title="{} UTC">{} {}</time>').format(times.rfc3339(value), value, day, shown)


def day(value: datetime | None) -> str:
    return NOTHING if value is None else value.date().isoformat()


def span(seconds: float | None) -> str:
    """``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``, ``4 d 3 h``: the two largest units."""
    if seconds is None:
        return NOTHING
    if abs(seconds) < 10:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts: list[tuple[int, str]] = []
    for unit, length in UNITS:
        if left >= length or (parts and unit != "s"):
            parts.append((left // length, unit))
            left %= length
        if len(parts) == 2:
            break
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def age(value: datetime | None, now: datetime) -> str:
    """``3 min 5 s ago``"""
    if value is None:
        return "never"
    seconds = (now - value).total_seconds()
    return "now" if abs(seconds) < 1 else f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def size(value: float | None) -> str:
    """``1.2 MB``"""
    if value is None:
        return NOTHING
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while abs(value) >= 1000 and len(units) > 1:
        value /= 1000
        del units[0]
    unit = units[0]
    return f"{value:,.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:,.1f} {unit}"


def short(value: float | None) -> str:
    """``12.3k``, ``4.5M``: for the axes of charts."""
    if value is None:
        return NOTHING
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def days_later(value: date, days: int) -> date:
    """Not past the last day that there is: some clients write it where they mean none."""
    return value + timedelta(days=min(days, (date.max - value).days))


def pair(value: str) -> tuple[str, str]:
    """A value that is shown as it is, for a choice of them."""
    return value, value


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "counted": counted,
    "share": share,
    "moment": moment,
    "day": day,
    "span": span,
    "age": age,
    "size": size,
    "short": short,
    "pretty": pretty,
    "pair": pair,
    "days_later": days_later,
}
