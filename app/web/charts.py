"""Where the parts of a chart lie; ``_charts.html`` draws them as SVG, which needs neither a script nor a style."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from app.domain.visit_groups import GroupRow
from app.web import formats

WIDTH, HEIGHT = 620, 290
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 12, 26
LABEL_WIDTH = 64  # of one label under a bar, about
MOST_BARS = 62
TICKS = 4


@dataclass(frozen=True, slots=True)
class Tick:
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Rect:
    kind: str
    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    rects: Sequence[Rect]
    points: Sequence[tuple[float, float, str]]  # of a line, with their titles
    across: Sequence[Tick]
    up: Sequence[Tick]
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class Column:
    """One bar of stacked parts by kind, and beside it what was before."""

    label: str
    parts: Mapping[str, float]
    before: float = 0.0


def columns(values: Sequence[Column]) -> Chart:
    """Stacked bars, each in front of a pale one of what was before."""
    most = max([*(sum(each.parts.values()) for each in values), *(each.before for each in values), 1])
    scale, up = _axis(most)
    step = (WIDTH - LEFT - RIGHT) / max(len(values), 1)
    bar = step * 0.62
    rects = []
    for number, each in enumerate(values):
        x = LEFT + step * number + (step - bar) / 2
        if each.before:
            top = scale(each.before)
            title = f"{each.label}, the period before: {formats.number(each.before)}"
            rects.append(Rect("before", x - step * 0.12, top, bar + step * 0.24, HEIGHT - BOTTOM - top, title))
        base = 0.0
        for kind, value in each.parts.items():
            if value:
                y = scale(base + value)
                title = f"{each.label}: {formats.number(value)} {kind}"
                rects.append(Rect(kind, x, y, bar, scale(base) - y, title))
            base += value
    return Chart(rects, [], _labels(len(values), lambda n: values[n].label, step), up)


def line(values: Sequence[tuple[date, float]], unit: str) -> Chart:
    """A line through values by their days, which ascend; days without one take their room."""
    scale, up = _axis(max([value for _, value in values] or [1]))
    first = values[0][0] if values else date.min
    days = (values[-1][0] - first).days + 1 if values else 1
    step = (WIDTH - LEFT - RIGHT) / days
    points = [
        (LEFT + step * ((day - first).days + 0.5), scale(value), f"{day}: {formats.number(value)} {unit}")
        for day, value in values
    ]
    return Chart([], points, _labels(days, lambda n: f"{first + timedelta(days=n):%d %b}", step), up)


def _axis(most: float) -> tuple[Callable[[float], float], list[Tick]]:
    """From a value to its height, and round values to be written beside the axis."""
    rough = max(most, 1) / TICKS
    magnitude = 10 ** math.floor(math.log10(rough))
    step = max(next(each for each in (1, 2, 2.5, 5, 10) if each * magnitude >= rough) * magnitude, 1)
    top = step * math.ceil(most / step)

    def scale(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / top, 2)

    return scale, [Tick(formats.short(step * number), scale(step * number)) for number in range(round(top / step) + 1)]


def _labels(count: int, label: Callable[[int], str], step: float) -> list[Tick]:
    every = max(1, math.ceil(LABEL_WIDTH / step))
    return [Tick(label(number), LEFT + step * (number + 0.5)) for number in range(0, count, every)]


def by_day(rows: Iterable[GroupRow], before: Iterable[GroupRow], first: date, days: int) -> list[Column]:
    """A column for each day of a period, or for each stretch of days where they are many."""
    stretch = math.ceil(days / MOST_BARS)
    now = _summed(rows, first, stretch)
    then = _summed(before, first, stretch, earlier=days)
    found = []
    for number in range(math.ceil(days / stretch)):
        day = first + timedelta(days=number * stretch)
        row, earlier = now.get(number), then.get(number)
        parts = {name: getattr(row, name) if row else 0 for name in ("completed", "failed", "open")}
        parts["cancelled"] = row.visits - sum(parts.values()) if row else 0
        label = f"{day:%d %b}" if stretch == 1 else f"{day:%d %b} +{stretch} d"
        found.append(Column(label, parts, earlier.visits if earlier else 0))
    return found


def _summed(rows: Iterable[GroupRow], first: date, stretch: int, *, earlier: int = 0) -> dict[int, GroupRow]:
    """By the number of the stretch, counted from so many days before the first."""
    summed: dict[int, GroupRow] = {}
    for row in rows:
        day: Any = row.key
        summed.setdefault(((day - first).days + earlier) // stretch, GroupRow(None)).add(row)
    return summed
