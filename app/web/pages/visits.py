"""Visits: a row each or by store, area, day or week, on a page or as a file of exactly what the page shows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from flask import Response, stream_with_context, url_for

from app import spreadsheets
from app.domain import exports, scratch, stores, visit_files, visit_groups, visit_tables
from app.domain.visit_files import Asked, Row
from app.domain.visit_groups import Group
from app.domain.visit_tables import Sort, Wanted
from app.extensions import settings
from app.models import VisitState
from app.reports import sheets
from app.web import files, forms
from app.web.auth import needs
from app.web.pages import periods
from app.web.pages.base import blueprint
from app.web.pages.periods import Period
from app.web.rendering import page, see
from app.web.requests import validated
from app.web.schemas import pages as schemas

VISITS_A_PAGE = 50
# A workbook is built before it is sent: so many rows take about two seconds. CSV is sent as it is read.
ROWS_AT_ONCE = 20_000


@blueprint.get("/visits", endpoint="visits")
@validated
def find_visits(query: schemas.VisitsQuery) -> Response:
    period = _period(query)
    wanted = _wanted(query, period)
    shown: dict[str, Any] = {}
    if query.group:
        rows = visit_groups.find(wanted, query.group, sort=query.order)
        first = (query.page - 1) * VISITS_A_PAGE
        shown = {"groups": rows[first : first + VISITS_A_PAGE], "groups_total": len(rows)}
    else:
        found = visit_tables.find(wanted, sort=query.sort, cursor=query.cursor, per_page=VISITS_A_PAGE)
        shown = {"found": found.visits, "next": found.next}
    return page(
        "visits/list.html",
        section="pages.visits",
        query=query,
        period=period,
        areas=stores.find_areas(),
        states=VisitState,
        sorts=Sort,
        kinds=Group,
        per_page=VISITS_A_PAGE,
        is_narrowed=bool(query.area or query.store or query.job or query.state or period.is_chosen),
        **shown,
    )


@blueprint.get("/visits.csv", endpoint="visits_csv")
@validated
def as_csv(query: schemas.VisitsQuery) -> Response:
    asked = _asked(query)
    return _file(stream_with_context(_csv(asked.titles, visit_files.rows(asked))), "csv", "text/csv; header=present")


@blueprint.get("/visits.xlsx", endpoint="visits_xlsx")
@validated
def as_workbook(query: schemas.VisitsQuery) -> Response:
    """The file, or the question whether a worker is to build it, which takes a while."""
    asked = _asked(query)
    rows = visit_files.count(asked)
    if rows > ROWS_AT_ONCE:
        return page("exports/ask.html", section="pages.visits", rows=rows, token=forms.token(), most=exports.MOST_ROWS)
    with scratch.folder() as folder:
        made = folder / "visits.xlsx"
        sheets.write(made, asked.titles, visit_files.rows(asked))
        content = made.read_bytes()
    return _file(iter([content]), "xlsx", exports.TYPE)


@blueprint.post("/exports", endpoint="create_export")
@needs("read")
@validated
def create_export(query: schemas.VisitsQuery) -> Response:
    """A second click finds what the first has begun."""
    export = exports.create(_asked(query), forms.name())
    return see(url_for(".export", export_id=export.id))


@blueprint.get("/exports/<export_id>", endpoint="export")
@validated
def get_export(path: schemas.ExportPath) -> Response:
    return page(
        "exports/export.html",
        fragment="exports/_export.html",
        section="pages.visits",
        export=exports.get(path.export_id),
        keep_days=settings.EXPORT_KEEP_DAYS,
    )


@blueprint.get("/exports/<export_id>.xlsx", endpoint="export_file")
@validated
def download_export(path: schemas.ExportPath) -> Response:
    return files.send(exports.get_file(path.export_id), as_attachment=True)


def _period(query: schemas.VisitsQuery) -> Period:
    """All visits of a job are meant where a job is named, whenever they were."""
    return periods.read(query) if not query.job or query.start or query.end else Period(None, None, is_chosen=True)


def _wanted(query: schemas.VisitsQuery, period: Period) -> Wanted:
    return Wanted(period.start, period.end, query.area, query.store, query.job, query.state)


def _asked(query: schemas.VisitsQuery) -> Asked:
    return Asked(_wanted(query, _period(query)), query.group, query.sort, query.order)


def _file(pieces: Iterator[bytes], suffix: str, kind: str) -> Response:
    answer = Response(pieces, mimetype=kind)
    answer.headers["Content-Disposition"] = f'attachment; filename="visits.{suffix}"'
    return answer


def _csv(titles: tuple[str, ...], rows: Iterator[Row]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(titles)
    for number, row in enumerate(rows, 1):
        writer.writerow([spreadsheets.inert(cell) if isinstance(cell, str) else cell for cell in row])
        if number % visit_tables.ROWS_A_SLICE == 0:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()
