"""Outcomes into the rows of their images, each guarded by "still open, and at the same attempt"; no commit."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    Integer,
    SmallInteger,
    String,
    Text,
    and_,
    case,
    func,
    select,
    update,
)
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine

from app.domain.outcomes import Outcome
from app.models import Image, ImageState
from app.sql import db_now, json_rows

_key: dict[str, TypeEngine[Any]] = {"job_id": BigInteger(), "seq": Integer(), "attempts": SmallInteger()}
_measured: dict[str, TypeEngine[Any]] = {
    "width": Integer(),
    "height": Integer(),
    "perimeter": BigInteger(),
    "format": String(16),
    "bytes": BigInteger(),
    "seconds": Float(53),
}
_ended: dict[str, TypeEngine[Any]] = {
    "attempts_after": SmallInteger(),
    "state": String(16),
    "error_code": String(32),
    "error_message": String(300),
    "delay_seconds": Float(53),
}
_kept: dict[str, TypeEngine[Any]] = {
    "results": Text().with_variant(LONGTEXT(), "mysql"),
    "sha256": String(64),
    "storage_key": String(255),
}


class _Shape:
    """Outcomes that are written alike: by one statement, each a row of the same few columns.

    Each column costs the server time, and nearly all outcomes are measures alone.
    """

    def __init__(self, *, has_ended: bool = False, is_kept: bool = False) -> None:
        columns = _key | _measured | (_ended if has_ended else {}) | (_kept if is_kept else {})
        self._read = attrgetter(*(f"work.{name}" for name in _key), *tuple(columns)[len(_key) :])
        self.rows = json_rows("outcomes", **columns)
        values: dict[str, Any] = {name: self.rows.c[name] for name in _measured}
        if has_ended:
            delay = self.rows.c.delay_seconds
            values |= {name: self.rows.c[name] for name in ("state", "error_code", "error_message")}
            values["attempts"] = self.rows.c.attempts_after
            values["next_attempt_at"] = case((delay.is_not(None), db_now(delay)))
            values["settled_at"] = case((delay.is_(None), db_now()))
        else:
            values |= {"state": ImageState.DONE, "error_code": None, "error_message": None}
            values |= {"attempts": self.rows.c.attempts + 1, "next_attempt_at": None, "settled_at": db_now()}
        if is_kept:
            # What the door knew of a file stays.
            for name in ("sha256", "storage_key"):
                values[name] = func.coalesce(self.rows.c[name], Image.__table__.c[name])
            values["results"] = self.rows.c.results
        self._write = (
            update(Image).where(_is_unsettled(self.rows)).values(values).execution_options(synchronize_session=False)
        )

    def write(self, session: Session, outcomes: Sequence[Outcome]) -> int:
        """How many were written."""
        written: int = session.execute(self._write, self.as_rows(outcomes)).rowcount  # type: ignore[attr-defined]
        return written

    def as_rows(self, outcomes: Iterable[Outcome]) -> dict[str, str]:
        return {"outcomes": json.dumps(sorted(map(self._read, outcomes), key=itemgetter(0, 1)))}


def _is_unsettled(rows: TableValuedAlias) -> ColumnElement[bool]:
    return and_(
        Image.job_id == rows.c.job_id,
        Image.seq == rows.c.seq,
        Image.state == ImageState.OPEN,
        Image.attempts == rows.c.attempts,
    )


_measures = _Shape()
_any = _Shape(has_ended=True)
_any_kept = _Shape(has_ended=True, is_kept=True)


def _shape_of(outcome: Outcome) -> _Shape:
    if outcome.has_more:
        return _any_kept
    return _measures if outcome.state is ImageState.DONE else _any


class PartlySettledError(Exception):
    """Some of a batch was settled before: an earlier COMMIT of it went through though its answer was lost."""


def write_all(session: Session, outcomes: list[Outcome]) -> list[Outcome]:
    """Write these outcomes, and return them. Raises PartlySettledError."""
    alike: defaultdict[_Shape, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        alike[_shape_of(outcome)].append(outcome)
    if sum(shape.write(session, each) for shape, each in alike.items()) != len(outcomes):
        raise PartlySettledError
    return outcomes


_unsettled = select(Image.job_id, Image.seq).where(_is_unsettled(_measures.rows))


def write_unsettled(session: Session, outcomes: list[Outcome]) -> list[Outcome]:
    """Write those outcomes of which the images are still open, and return them. Raises PartlySettledError."""
    rows = session.execute(_unsettled, _measures.as_rows(outcomes))
    unsettled = {(row.job_id, row.seq) for row in rows}
    fresh = [outcome for outcome in outcomes if (outcome.work.job_id, outcome.work.seq) in unsettled]
    return write_all(session, fresh) if fresh else []
