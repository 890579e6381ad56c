"""The demo's job: some visits to each of the first stores of the sample master, with what goes wrong in real life."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

STORES = 48
IMAGES_A_VISIT = 5
UNKNOWN_STORE = "S99999999"
MISSING_PHOTO = "deleted.jpg"
FIRST_DAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


@dataclass
class Submission:
    """``body`` is what is posted; ``failing`` are the stores that must come back as failed."""

    body: dict[str, Any]
    images: int
    failing: set[str] = field(default_factory=set)


def build(host: str, photos: Sequence[str], broken: Sequence[str], *, images: int, stores: Path) -> Submission:
    """A job of ``images`` photos of ``host``: one store does not exist, and as many stores as there are ``broken``
    photos, plus one whose photo is gone, have one bad picture among good ones."""
    known = read_store_ids(stores)[:STORES]
    names, turns = cycle(photos), cycle([*known, UNKNOWN_STORE])
    urls = [f"{host}/{next(names)}?shelf={shelf}" for shelf in range(1, images + 1)]
    visits: list[dict[str, Any]] = [
        {"store_id": next(turns), "image_url": urls[start : start + IMAGES_A_VISIT], "visit_time": _time_of(number)}
        for number, start in enumerate(range(0, images, IMAGES_A_VISIT))
    ]
    bad = [*broken, MISSING_PHOTO]
    for visit, name in zip(visits[3::7], bad, strict=False):
        visit["image_url"][0] = f"{host}/{name}"
    failing = {visit["store_id"] for visit in visits[3::7][: len(bad)]} | {UNKNOWN_STORE}
    return Submission({"count": len(visits), "visits": visits}, images, failing)


def _time_of(visit: int) -> str:
    """Rounds of some stores a day, on working days of one spring."""
    day, stop = divmod(visit, STORES + 1)
    return (FIRST_DAY + timedelta(days=day, minutes=9 * stop)).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_store_ids(file: Path) -> list[str]:
    """The ids of a store master, in its order."""
    with file.open(newline="", encoding="utf-8-sig") as rows:
        return [row["StoreID"] for row in csv.DictReader(rows)]
