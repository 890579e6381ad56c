"""The dates that a page is about: as asked for, or the last days that have data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time

from app.domain import visit_tables
from app.errors import InvalidRequestError
from app.web.schemas.pages import PeriodQuery


@dataclass(frozen=True, slots=True)
class Period:
    """``is_chosen`` where the address names a bound; else the service has chosen, and None means that there is none."""

    start: datetime | None
    end: datetime | None
    is_chosen: bool

    @property
    def days(self) -> int | None:
        return (self.end.date() - self.start.date()).days + 1 if self.start and self.end else None


def read(query: PeriodQuery) -> Period:
    """Raises InvalidRequestError where it ends before it begins."""
    if query.start and query.end and query.start > query.end:
        raise InvalidRequestError("start: later than end")
    if query.start or query.end:
        return Period(query.start, query.end, is_chosen=True)
    found = visit_tables.last_days()
    start, end = whole_days(*found) if found else (None, None)
    return Period(start, end, is_chosen=False)


def whole_days(first: date, last: date) -> tuple[datetime, datetime]:
    return datetime.combine(first, time.min), datetime.combine(last, time.max)
