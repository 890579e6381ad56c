"""Outcomes into the rows of their images, each guarded by "still open, and at the same attempt"; no commit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    Integer,
    SmallInteger,
    String,
    Text,
    Update,
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

RESULT_COLUMNS = ("error_code", "error_message", "width", "height", "perimeter", "format", "bytes", "seconds")
_result_types: dict[str, TypeEngine[Any]] = {
    "job_id": BigInteger(),
    "seq": Integer(),
    "attempts": SmallInteger(),
    "is_attempt": SmallInteger(),
    "state": String(16),
    "error_code": String(32),
    "error_message": String(300),
    "delay": Float(53),
    "width": Integer(),
    "height": Integer(),
    "perimeter": BigInteger(),
    "format": String(16),
    "bytes": BigInteger(),
    "seconds": Float(53),
}
_results = json_rows("outcomes", **_result_types)
_more_results = json_rows(
    "outcomes",
    **_result_types,
    results=Text().with_variant(LONGTEXT(), "mysql"),
    sha256=String(64),
    storage_key=String(255),
)


def _is_unsettled(rows: TableValuedAlias) -> ColumnElement[bool]:
    return and_(
        Image.job_id == rows.c.job_id,
        Image.seq == rows.c.seq,
        Image.state == ImageState.OPEN,
        Image.attempts == rows.c.attempts,
    )


def _write(rows: TableValuedAlias, **more: Any) -> Update:
    return (
        update(Image)
        .where(_is_unsettled(rows))
        .values(
            attempts=rows.c.attempts + rows.c.is_attempt,
            state=rows.c.state,
            next_attempt_at=case((rows.c.delay.is_not(None), db_now(rows.c.delay))),
            settled_at=case((rows.c.delay.is_(None), db_now())),
            **{name: rows.c[name] for name in RESULT_COLUMNS},
            **more,
        )
        .execution_options(synchronize_session=False)
    )


_write_results = _write(_results)
_write_more = _write(
    _more_results,
    results=_more_results.c.results,
    # What the door knew of a file stays.
    sha256=func.coalesce(_more_results.c.sha256, Image.sha256),
    storage_key=func.coalesce(_more_results.c.storage_key, Image.storage_key),
)


class PartlySettledError(Exception):
    """Some of a batch was settled before: an earlier COMMIT of it went through though its answer was lost."""


def write_all(session: Session, outcomes: list[Outcome]) -> list[Outcome]:
    """Write these outcomes, and return them. Raises PartlySettledError."""
    # Images of which no more is known than what is measured always, nearly all, are spared the wider rows.
    plain = [outcome for outcome in outcomes if not outcome.has_more]
    more = [outcome for outcome in outcomes if outcome.has_more]
    written = 0
    if plain:
        written += session.execute(_write_results, _as_rows(plain)).rowcount  # type: ignore[attr-defined]
    if more:
        written += session.execute(_write_more, _as_rows(more, has_more=True)).rowcount  # type: ignore[attr-defined]
    if written != len(outcomes):
        raise PartlySettledError
    return outcomes


def write_unsettled(session: Session, outcomes: list[Outcome]) -> list[Outcome]:
    """Write those outcomes of which the images are still open, and return them. Raises PartlySettledError."""
    rows = session.execute(select(Image.job_id, Image.seq).where(_is_unsettled(_results)), _as_rows(outcomes))
    unsettled = {(row.job_id, row.seq) for row in rows}
    fresh = [outcome for outcome in outcomes if (outcome.work.job_id, outcome.work.seq) in unsettled]
    return write_all(session, fresh) if fresh else []


def _as_rows(outcomes: Iterable[Outcome], *, has_more: bool = False) -> dict[str, str]:
    rows = [
        (
            outcome.work.job_id,
            outcome.work.seq,
            outcome.work.attempts,
            int(outcome.is_attempt),
            outcome.state.value,
            outcome.error_code,
            outcome.error_message,
            outcome.delay_seconds,
            outcome.width,
            outcome.height,
            outcome.perimeter,
            outcome.format,
            outcome.bytes,
            outcome.seconds,
            *((outcome.results, outcome.sha256, outcome.storage_key) if has_more else ()),
        )
        for outcome in sorted(outcomes, key=lambda each: (each.work.job_id, each.work.seq))
    ]
    return {"outcomes": json.dumps(rows)}
