"""Visits: a row each or by store, area, day or week, on a page or as a file of exactly what the page shows."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

from flask import Response, stream_with_context
from xlsxwriter import Workbook

from app import spreadsheets, times
from app.domain import stores, visit_groups, visit_tables
from app.domain.visit_groups import Group, GroupRow
from app.domain.visit_tables import Sort, VisitRow, Wanted
from app.errors import InvalidRequestError
from app.models import VisitState
from app.web.pages import periods
from app.web.pages.base import blueprint
from app.web.pages.periods import Period
from app.web.rendering import page
from app.web.requests import validated
from app.web.schemas import pages as schemas

VISITS_A_PAGE = 50
# A workbook is built before it is sent: so many rows take about ten seconds and 20 MB of disk. CSV knows no bound.
WORKBOOK_MOST_ROWS = 100_000
READ_BYTES = 64 * 1024

Row = tuple[Any, ...]
VISIT_TITLES = (
    *("time", "store_id", "store_name", "area", "state", "images", "images_failed", "perimeter"),
    *("seconds", "job_id", "visit", "error_code", "error_message"),
)
COUNT_TITLES = ("visits", "completed", "failed", "open", "images", "images_failed", "perimeter")


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
    titles, rows = _table(query)
    return _file(stream_with_context(_csv(titles, rows)), "csv", "text/csv; header=present")


@blueprint.get("/visits.xlsx", endpoint="visits_xlsx")
@validated
def as_workbook(query: schemas.VisitsQuery) -> Response:
    if not query.group and visit_tables.count(_wanted(query, _period(query)), most=WORKBOOK_MOST_ROWS) > (
        WORKBOOK_MOST_ROWS
    ):
        raise InvalidRequestError(
            f"more than {WORKBOOK_MOST_ROWS} visits match, which is too many for a workbook: narrow them, or take CSV"
        )
    file = tempfile.TemporaryFile()  # noqa: SIM115  # closed at the end of the answer
    _write_workbook(file, *_table(query))
    answer = _file(
        iter(lambda: file.read(READ_BYTES), b""),
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    )
    answer.call_on_close(file.close)
    return answer


def _period(query: schemas.VisitsQuery) -> Period:
    """All visits of a job are meant where a job is named, whenever they were."""
    return periods.read(query) if not query.job or query.start or query.end else Period(None, None, is_chosen=True)


def _wanted(query: schemas.VisitsQuery, period: Period) -> Wanted:
    return Wanted(period.start, period.end, query.area, query.store, query.job, query.state)


def _table(query: schemas.VisitsQuery) -> tuple[tuple[str, ...], Iterator[Row]]:
    """Titles and rows; the first rows are read at once, so that what cannot be answered is refused before it begins."""
    wanted = _wanted(query, _period(query))
    if query.group:
        groups = visit_groups.find(wanted, query.group, sort=query.order)
        names = ("store_id", "store_name", "area") if query.group is Group.STORE else (query.group.value,)
        return (*names, *COUNT_TITLES), (_group_cells(row, query.group) for row in groups)
    slices = visit_tables.read(wanted, query.sort)
    first = next(slices)
    return VISIT_TITLES, (_visit_cells(row) for part in _chained(first, slices) for row in part)


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


def _write_workbook(file: IO[bytes], titles: tuple[str, ...], rows: Iterator[Row]) -> None:
    """Cells stay what they are: no text becomes a formula, a link or a number."""
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with Workbook(file, options) as book:
        sheet = book.add_worksheet("visits")
        bold = book.add_format({"bold": True})
        sheet.freeze_panes(1, 0)
        sheet.write_row(0, 0, titles, bold)
        for number, row in enumerate(rows, 1):
            sheet.write_row(number, 0, row)
    file.seek(0)
