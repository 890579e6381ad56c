"""Results of whole jobs as Parquet: the columns of CSV, each with its type."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, get_args, get_origin

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app import parquetfile
from app.domain import results
from app.domain.results import Export, Field, Result
from app.parquetfile import Column, Kind
from app.web.documents import results as documents
from app.web.requests import validated
from app.web.results import COLUMNS, MORE, MOST_FIELDS, as_answer, as_file, wanted_by
from app.web.schemas import results as schemas
from app.web.schemas.jobs import JobPath

blueprint = APIBlueprint("parquet", __name__, abp_tags=[Tag(name="results", description="Whole jobs as files")])

KINDS = {bool: Kind.TRUTH, int: Kind.INTEGER, float: Kind.NUMBER, datetime: Kind.TIME}
LEAST_INTEGER, MOST_INTEGER = -(2**63), 2**63 - 1


@blueprint.get("/api/jobs/<int:job_id>/results.parquet", **documents.as_parquet)
@validated
def as_parquet(path: JobPath, query: schemas.ResultsQuery) -> Response:
    """All that is known of each image of a job, as a table with types, packed."""
    wanted = wanted_by(query)
    export = results.read(path.job_id, wanted)
    fields = _distinct(results.find_fields(path.job_id, wanted, most=MOST_FIELDS))
    kinds = [_kind_of(field.types) for field in fields]
    columns = [*OWN_COLUMNS, *(Column(field.title, kind) for field, kind in zip(fields, kinds, strict=True))]
    if fields:
        columns.append(Column(MORE, Kind.TEXT))
    pieces = parquetfile.stream(columns, _pages(export, fields, kinds))
    return as_file(pieces, path.job_id, "parquet", "application/vnd.apache.parquet")


def _own_kind(annotation: Any) -> Kind:
    """The type of a column of ours; what is neither number nor time is text, an object as JSON."""
    [inner] = [each for each in get_args(annotation) or [annotation] if each is not types.NoneType]
    if get_origin(inner) is Annotated:
        inner = get_args(inner)[0]
    return KINDS.get(inner, Kind.TEXT)


OWN_COLUMNS = [Column(name, _own_kind(schemas.ResultAnswer.model_fields[name].annotation)) for name in COLUMNS]


def _distinct(fields: Sequence[Field]) -> list[Field]:
    """Without those that a dot makes look like another one: a column has its name alone."""
    return list({field.title: field for field in reversed(fields)}.values())[::-1]


def _kind_of(found: frozenset[type]) -> Kind:
    """The type of a column that holds values of these types; what has several, or is a list, is text."""
    if found == {int, float}:
        return Kind.NUMBER
    return KINDS.get(next(iter(found)), Kind.TEXT) if len(found) == 1 else Kind.TEXT


def _pages(export: Export, fields: Sequence[Field], kinds: Sequence[Kind]) -> Iterator[list[list[Any]]]:
    for page in export.pages:
        yield [[*_own_cells(row), *(_cells(row, fields, kinds) if fields else ())] for row in page]


def _own_cells(row: Result) -> Iterator[Any]:
    shown = as_answer(row)
    for column in OWN_COLUMNS:
        value = getattr(shown, column.name)
        yield _text(value) if column.kind is Kind.TEXT else value


def _cells(row: Result, fields: Sequence[Field], kinds: Sequence[Kind]) -> Iterator[Any]:
    *values, more = results.cells(row, fields)
    for field, kind, value in zip(fields, kinds, values, strict=True):
        if kind is Kind.TEXT:
            yield _text(value)
        elif value is None or _fits(value, kind):
            yield value
        else:  # it came up since the types were looked for
            more = {**(more or {}), field.title: value}
            yield None
    yield _text(more)


def _fits(value: Any, kind: Kind) -> bool:
    if kind is Kind.TRUTH or isinstance(value, bool):
        return kind is Kind.TRUTH and isinstance(value, bool)
    if kind is Kind.INTEGER:
        return isinstance(value, int) and LEAST_INTEGER <= value <= MOST_INTEGER
    return isinstance(value, (int, float))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    return json.dumps(value, ensure_ascii=False)
