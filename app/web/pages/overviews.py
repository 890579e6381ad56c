"""The first page: the whole now, and a period against the one before."""

from __future__ import annotations

from flask import Response

from app.domain import overviews, stores
from app.web import charts
from app.web.pages import periods
from app.web.pages.base import blueprint
from app.web.rendering import page
from app.web.requests import validated
from app.web.schemas import pages as schemas

AREAS_SHOWN = 10
ERRORS_SHOWN = 10


@blueprint.get("/", endpoint="overview")
@validated
def get_overview(query: schemas.OverviewQuery) -> Response:
    return page(
        "overview/overview.html",
        section="pages.overview",
        query=query,
        period=periods.read(query),
        areas=stores.find_areas(),
        has_stores=stores.has_any(),
        now=overviews.now(),
    )


@blueprint.get("/now", endpoint="overview_now")
def get_now() -> Response:
    return page("overview/_now.html", now=overviews.now())


@blueprint.get("/period", endpoint="overview_period")
@validated
def get_period(query: schemas.OverviewQuery) -> Response:
    """The charts of the first page: they read every visit of the period, so they come after it is there."""
    period = periods.read(query)
    if period.start is None or period.end is None or period.days is None:
        return page("overview/_period.html", found=None, query=query, period=period)
    found = overviews.of(period.start, period.end, area=query.area, store_id=query.store, silent_days=query.silent)
    columns = charts.by_day(found.days, found.before, period.start.date(), period.days)
    return page(
        "overview/_period.html",
        found=found,
        query=query,
        period=period,
        columns=columns,
        chart=charts.columns(columns),
        visits=sum(row.visits for row in found.days),
        visits_before=sum(row.visits for row in found.before),
        perimeter=sum(row.perimeter for row in found.days),
        areas=sorted(found.areas, key=lambda row: -row.perimeter)[:AREAS_SHOWN],
        errors=found.errors[:ERRORS_SHOWN],
    )
