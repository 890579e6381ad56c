"""The tables of the visits page as files of exactly what is shown: their titles, and their rows one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from app import times
from app.domain import visit_groups, visit_tables
from app.domain.visit_groups import Group, GroupRow
from app.domain.visit_tables import Sort, VisitRow, Wanted
from app.models import VisitState

Row = tuple[Any, ...]
VISIT_TITLES = (
    *("time", "store_id", "store_name", "area", "state", "images", "images_failed", "perimeter"),
    *("seconds", "job_id", "visit", "error_code", "error_message"),
)
COUNT_TITLES = ("visits", "completed", "failed", "open", "images", "images_failed", "perimeter")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which visits, and how: one row each in the order of ``sort``, or groups of them, by key or by ``order``."""

    wanted: Wanted
    group: Group | None = None
    sort: Sort = Sort.NEWEST
    order: str | None = None

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        for name in ("start", "end"):
            if at := found["wanted"][name]:
                found["wanted"][name] = at.isoformat()
        return found

    @classmethod
    def of_json(cls, stored: dict[str, Any]) -> Asked:
        wanted = dict(stored["wanted"])
        for name in ("start", "end"):
            wanted[name] = datetime.fromisoformat(wanted[name]) if wanted[name] else None
        wanted["state"] = VisitState(wanted["state"]) if wanted["state"] else None
        group = Group(stored["group"]) if stored["group"] else None
        return cls(Wanted(**wanted), group, Sort(stored["sort"]), stored["order"])

    @property
    def titles(self) -> tuple[str, ...]:
        if self.group is None:
            return VISIT_TITLES
        names = ("store_id", "store_name", "area") if self.group is Group.STORE else (self.group.value,)
        return (*names, *COUNT_TITLES)


def count(asked: Asked) -> int:
    """How many rows there are; for one a visit, the sums know."""
    groups = visit_groups.find(asked.wanted, asked.group or Group.DAY)
    return len(groups) if asked.group else sum(row.visits for row in groups)


def rows(asked: Asked) -> Iterator[Row]:
    """The first are read at once, so that what cannot be answered is refused at once. Raises InvalidRequestError."""
    if asked.group:
        groups = visit_groups.find(asked.wanted, asked.group, sort=asked.order)
        return (_group_cells(row, asked.group) for row in groups)
    slices = visit_tables.read(asked.wanted, asked.sort)
    first = next(slices)
    return (_visit_cells(row) for part in _chained(first, slices) for row in part)


def _chained(first: list[VisitRow], rest: Iterable[list[VisitRow]]) -> Iterator[list[VisitRow]]:
    yield first
    yield from rest


def _visit_cells(row: VisitRow) -> Row:
    return (
        times.rfc3339(row.visited_at),
        row.store_id,
        row.store_name,
        row.area,
        row.state.value,
        row.images_total,
        row.images_failed,
        row.perimeter,
        round(row.seconds, 3),
        row.job_id,
        row.seq,
        row.error_code,
        row.error_message,
    )


def _group_cells(row: GroupRow, group: Group) -> Row:
    key = row.key.isoformat() if row.key is not None and not isinstance(row.key, str) else row.key
    names = (key, row.name, row.area) if group is Group.STORE else (key,)
    return (*names, *(getattr(row, name) for name in COUNT_TITLES))
