"""Lists of image URLs as people paste them: a URL a line, or a store, a time and a URL."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app import times
from app.domain.plans import NewVisit
from app.errors import InvalidRequestError
from app.web import fields

_url = TypeAdapter(fields.Url)
_store = TypeAdapter(fields.StoreId)
# A line that names its store and its time, by comma, semicolon or tab; a URL may hold commas itself.
_WITH_STORE = re.compile(r"(?P<store>[^,;\t]*)[,;\t](?P<time>[^,;\t]*)[,;\t]\s*(?P<url>https?:.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Problem:
    line: int
    text: str
    reason: str


@dataclass(slots=True)
class UrlList:
    """Visits in the order of their first lines, and the lines that cannot be taken."""

    visits: list[NewVisit] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def images(self) -> int:
        return sum(len(visit.urls) for visit in self.visits)


def read(text: str, *, store_id: str, visit_time: str, now: datetime) -> UrlList:
    """``store_id`` and ``visit_time`` stand for those that a line lacks; an empty time is ``now``."""
    found = UrlList()
    urls: dict[tuple[str, str], list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        shape = _WITH_STORE.fullmatch(line)
        store, time, url = shape.group("store", "time", "url") if shape else (store_id, visit_time, line)
        time = time.strip() or visit_time.strip() or times.rfc3339(now.replace(microsecond=0))
        try:
            key = (_store.validate_python(store.strip() or store_id), time)
            times.parse(time)
            urls.setdefault(key, []).append(_url.validate_python(url.strip()))
        except (ValidationError, InvalidRequestError) as error:
            found.problems.append(Problem(number, line[:200], _reason(error, store.strip() or store_id)))
    found.visits = [NewVisit(store, times.parse(time), time, group) for (store, time), group in urls.items()]
    return found


def _reason(error: ValidationError | InvalidRequestError, store: str) -> str:
    if isinstance(error, InvalidRequestError):
        return str(error)
    if not store:
        return "no store: name one above, or in the line"
    return error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")


def as_body(visits: Sequence[NewVisit], **more: Any) -> dict[str, Any]:
    """What a program would send to ``POST /api/submit/`` for the same; ``more`` where it is set."""
    sent = [
        {"store_id": visit.store_id, "visit_time": visit.visited_as_sent, "image_url": list(visit.urls)}
        for visit in visits
    ]
    return {"count": len(sent), "visits": sent} | {name: value for name, value in more.items() if value}
