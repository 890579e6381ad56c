"""Results of whole jobs as files, streamed: memory stays flat and no database connection is held, whatever the size."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app import spreadsheets
from app.domain import results
from app.domain.listings import ImageFilter
from app.domain.results import Export, Field, Result
from app.web.documents import results as documents
from app.web.requests import Streamed, validated
from app.web.schemas import results as schemas
from app.web.schemas.jobs import JobPath

blueprint = APIBlueprint("results", __name__, abp_tags=[Tag(name="results", description="Whole jobs as files")])

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}
BYTE_ORDER_MARK = "\ufeff"
# Excel has 16,384 columns; long before that nobody finds anything. What has none of its own stands in the last one.
MOST_FIELDS = 500
MORE = "more_results"
COLUMNS = [name for name in schemas.ResultAnswer.model_fields if name != "results"]


@blueprint.get("/api/jobs/<int:job_id>/results.json", **documents.as_json)
@validated
def as_json(path: JobPath, query: schemas.ResultsQuery) -> Response:
    """All that is known of each image of a job, as one JSON document."""
    return as_file(_json(results.read(path.job_id, wanted_by(query))), path.job_id, "json", "application/json")


@blueprint.get("/api/jobs/<int:job_id>/results.jsonl", **documents.as_json_lines)
@validated
def as_json_lines(path: JobPath, query: schemas.ResultsQuery) -> Response:
    """All that is known of each image of a job, a JSON object a line."""
    return as_file(
        _json_lines(results.read(path.job_id, wanted_by(query))), path.job_id, "jsonl", "application/x-ndjson"
    )


@blueprint.get("/api/jobs/<int:job_id>/results.csv", **documents.as_csv)
@validated
def as_csv(path: JobPath, query: schemas.CsvQuery) -> Response:
    """All that is known of each image of a job, as a table that opens in a spreadsheet."""
    wanted = wanted_by(query)
    export = results.read(path.job_id, wanted)
    fields = results.find_fields(path.job_id, wanted, most=MOST_FIELDS)
    mark = BYTE_ORDER_MARK if query.bom else ""
    text = _csv(export, fields, delimiter=SEPARATORS[query.separator], mark=mark)
    return as_file(text, path.job_id, "csv", "text/csv; header=present")


def wanted_by(query: schemas.ResultsQuery) -> ImageFilter:
    return ImageFilter(query.state, query.error_code)


def as_file(pieces: Generator[bytes, None, None], job_id: int, suffix: str, kind: str) -> Response:
    """Should the database fail on the way, the answer breaks off without its end: no client takes it for whole."""
    response = Response(Streamed(pieces), mimetype=kind)
    response.headers["Content-Disposition"] = f'attachment; filename="job-{job_id}-results.{suffix}"'
    return response


def _json(export: Export) -> Generator[bytes, None, None]:
    yield b'{"job_id":%d,"results":[' % export.job.id
    separator = "\n"
    for page in export.pages:
        if page:
            yield (separator + ",\n".join(as_answer(row).model_dump_json() for row in page)).encode()
            separator = ",\n"
    yield b"\n]}\n"


def _json_lines(export: Export) -> Generator[bytes, None, None]:
    for page in export.pages:
        yield "".join(as_answer(row).model_dump_json() + "\n" for row in page).encode()


def _csv(export: Export, fields: Sequence[Field], *, delimiter: str, mark: str) -> Generator[bytes, None, None]:
    """RFC 4180. All text is quoted, so that nothing in it ends a cell where a program expects another separator."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_NONNUMERIC)
    titles = [*COLUMNS, *(field.title for field in fields), *([MORE] if fields else [])]
    text.write(mark)
    writer.writerow([spreadsheets.inert(title) for title in titles])
    for page in export.pages:
        for row in page:
            writer.writerow([_cell(value) for value in _values(row, fields)])
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()


def _values(row: Result, fields: Sequence[Field]) -> Iterator[Any]:
    shown = as_answer(row).model_dump(mode="json", exclude={"results"})
    yield from (shown[name] for name in COLUMNS)
    if fields:
        yield from results.cells(row, fields)


def _cell(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False)
    return spreadsheets.inert(value) if isinstance(value, str) else value


def as_answer(row: Result) -> schemas.ResultAnswer:
    image = row.image
    return schemas.ResultAnswer(
        job_id=image.job_id,
        seq=image.seq,
        client_ref=image.client_ref,
        metadata=image.client_metadata,
        url=image.url,
        storage_key=image.storage_key,
        state=image.state,
        error_code=image.error_code,
        error_message=image.error_message,
        width=image.width,
        height=image.height,
        perimeter=image.perimeter,
        format=image.format,
        bytes=image.bytes,
        sha256=image.sha256,
        seconds=None if image.seconds is None else round(image.seconds, 3),
        attempts=image.attempts,
        next_attempt_at=image.next_attempt_at,
        settled_at=image.settled_at,
        visit=image.visit_seq,
        store_id=row.store_id,
        visit_time=row.visited_at,
        visit_time_as_sent=row.visited_as_sent,
        area=row.area,
        store_name=row.store_name,
        store_name_as_sent=image.store_name,
        camera_id=image.camera_id,
        barcode=image.barcode,
        captured_at=image.captured_at,
        captured_at_as_sent=image.captured_as_sent,
        results=image.results,
    )
