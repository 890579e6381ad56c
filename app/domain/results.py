"""All that is known of a job's images, read from end to end without holding it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, null, select
from sqlalchemy.orm import Session

from app.domain import jobs, transactions
from app.domain.listings import ImageFilter
from app.models import Image, Job, Store, Visit

ROWS_A_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Result:
    """An image with its visit and its store; fields of these are None where it has none."""

    image: Image
    store_id: str | None
    visited_at: datetime | None
    visited_as_sent: str | None
    area: str | None
    store_name: str | None


@dataclass(frozen=True, slots=True)
class Export:
    """``pages`` can be gone through once; the first is read already."""

    job: Job
    pages: Iterator[list[Result]]


class Field(NamedTuple):
    """A field of a processor's results, by its dotted name, and the types that its values have."""

    processor: str
    name: str
    types: frozenset[type]

    @property
    def title(self) -> str:
        return f"{self.processor}.{self.name}"


def read(job_id: int, wanted: ImageFilter) -> Export:
    """The images of a job in the order as sent, in pages. Raises NotFoundError; the pages raise UnavailableError.

    A page is a transaction of its own: a client that reads for an hour holds no connection and no old rows meanwhile.
    Of a job that is under way an image is shown as it was when its page was read.
    """

    def begin(session: Session) -> tuple[Job, list[Result]]:
        return jobs.load(session, job_id), _page(session, job_id, wanted, after=-1)

    job, first = transactions.read(begin)
    return Export(job, chain([first], _rest(job_id, wanted, first)))


def _rest(job_id: int, wanted: ImageFilter, page: list[Result]) -> Iterator[list[Result]]:
    while len(page) == ROWS_A_PAGE:
        after = page[-1].image.seq
        page = transactions.read(partial(_page, job_id=job_id, wanted=wanted, after=after))
        yield page


def _page(session: Session, job_id: int, wanted: ImageFilter, *, after: int) -> list[Result]:
    rows = session.execute(_query(job_id, wanted).where(Image.seq > after).limit(ROWS_A_PAGE))
    return [Result(*row) for row in rows]


def _query(job_id: int, wanted: ImageFilter) -> Any:
    # A photo from a camera has no visit; its store was told by its name.
    store_id = func.coalesce(Visit.store_id, Image.store_id)
    is_its_visit = and_(Visit.job_id == Image.job_id, Visit.seq == Image.visit_seq)
    return (
        select(Image, store_id, Visit.visited_at, Visit.visited_as_sent, Store.area, Store.name)
        .outerjoin(Visit, is_its_visit)
        .outerjoin(Store, Store.id == store_id)
        .where(*_conditions(job_id, wanted))
        .order_by(Image.seq)
    )


def _conditions(job_id: int, wanted: ImageFilter) -> list[ColumnElement[bool]]:
    conditions = [Image.job_id == job_id]
    if wanted.state:
        conditions.append(Image.state == wanted.state)
    if wanted.error_code:
        conditions.append(Image.error_code == wanted.error_code)
    return conditions


def find_fields(job_id: int, wanted: ImageFilter, *, most: int) -> list[Field]:
    """The fields that these images' results have, at most ``most``: by processor, then as met.

    Goes through the results of all these images once, a page at a time.
    """
    found: dict[str, dict[str, set[type]]] = {}
    met = 0
    for results in _results(job_id, wanted):
        for processor, entry in results.items():
            fields = found.setdefault(processor, {})
            for name, value in flat(entry).items():
                if name not in fields and met < most:
                    fields[name] = set()
                    met += 1
                if name in fields and value is not None:
                    fields[name].add(type(value))
    return [
        Field(processor, name, frozenset(types))
        for processor, fields in found.items()
        for name, types in fields.items()
    ]


def _results(job_id: int, wanted: ImageFilter) -> Iterator[dict[str, Any]]:
    conditions = [*_conditions(job_id, wanted), Image.results.is_not(null())]
    query = select(Image.seq, Image.results).where(*conditions).order_by(Image.seq).limit(ROWS_A_PAGE)
    after = -1
    while True:
        page = transactions.read(lambda session: session.execute(query.where(Image.seq > after)).all())  # noqa: B023
        yield from (row.results for row in page)
        if len(page) < ROWS_A_PAGE:
            return
        after = page[-1].seq


def flat(entry: dict[str, Any]) -> dict[str, Any]:
    """What one processor found out as single values, by dotted names; lists stay whole. ``error`` where it failed."""
    if "error" in entry:
        return {"error": entry["error"]}
    return dict(_leaves("", entry.get("result")))


def cells(row: Result, fields: Sequence[Field]) -> Iterator[Any]:
    """What an image's processors found out, by field; None where it has none of it. At the end the rest, by titles."""
    found = {
        (processor, name): value
        for processor, entry in (row.image.results or {}).items()
        for name, value in flat(entry).items()
    }
    yield from (found.pop((field.processor, field.name), None) for field in fields)
    # Fields that came up since they were looked for, and those beyond the most.
    yield {f"{processor}.{name}": value for (processor, name), value in found.items()} or None


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield name or "result", value
        return
    for inner, each in value.items():
        yield from _leaves(f"{name}.{inner}" if name else inner, each)
