"""The visits of stores, for dashboards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.domain import visits
from app.domain.visits import CompletedVisit, VisitFilter
from app.web.documents import visits as documents
from app.web.requests import answer, validated
from app.web.schemas import visits as schemas

blueprint = APIBlueprint(
    "visits", __name__, abp_tags=[Tag(name="visits", description="Results by store, area and period")]
)


@blueprint.get("/api/visits", **documents.find_visits)
@validated
def find_visits(query: schemas.VisitsQuery) -> Response:
    """Visits whose images all succeeded, by store and time."""
    wanted = VisitFilter(query.area, query.storeid, query.startdate, query.enddate)
    page = visits.find(wanted, cursor=query.cursor, per_page=query.per_page, with_total=query.total)
    shown = schemas.VisitsAnswer(
        results=_flat(page.visits) if query.format == "flat" else _grouped(page.visits), next=page.next
    )
    if query.total:
        shown.total = page.total
    return answer(shown)


def _grouped(found: Sequence[CompletedVisit]) -> list[schemas.StoreVisits]:
    return [
        schemas.StoreVisits(
            store_id=store.id, area=store.area, store_name=store.name, data=[_as_entry(visit) for visit in of_store]
        )
        for store, of_store in groupby(found, key=attrgetter("store"))
    ]


def _as_entry(visit: CompletedVisit) -> schemas.VisitAnswer:
    return schemas.VisitAnswer(
        date=visit.visited_at,
        perimeter=visit.perimeter,
        images=visit.images,
        average_seconds=round(visit.seconds / visit.images, 3),
    )


def _flat(found: Sequence[CompletedVisit]) -> list[schemas.FlatVisit]:
    return [
        schemas.FlatVisit(
            store_id=visit.store.id,
            area=visit.store.area,
            store_name=visit.store.name,
            date=visit.visited_at,
            perimeter=visit.perimeter,
        )
        for visit in found
    ]
