"""The store master: list, search, load a file after a look at what it would do, save; and one store's page."""

from __future__ import annotations

import base64
import binascii
import csv
import io
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from flask import Response, request, stream_with_context, url_for

from app import spreadsheets
from app.domain import stores, visit_groups, visit_tables
from app.domain.stores import StoreFilter
from app.domain.visit_groups import Group
from app.domain.visit_tables import Sort, Wanted
from app.errors import InvalidRequestError
from app.models import VisitState
from app.web import charts
from app.web.auth import needs
from app.web.pages.base import blueprint
from app.web.rendering import page, see
from app.web.requests import validated
from app.web.schemas import pages as schemas

STORES_A_PAGE = 50
STORES_A_SLICE = 1000
CHANGES_SHOWN = 200
FILE_MOST_BYTES = 8 * 1024 * 1024  # some 150,000 stores
VISITS_SHOWN = 30
DAYS_SHOWN = 92
GAP_DAYS = 7


@blueprint.get("/stores", endpoint="stores")
@validated
def find_stores(query: schemas.StoresQuery) -> Response:
    wanted = StoreFilter(query.search, query.area)
    found, following = stores.find(wanted, cursor=query.cursor, per_page=STORES_A_PAGE)
    return page(
        "stores/list.html",
        section="pages.stores",
        query=query,
        found=found,
        next=following,
        total=stores.count(wanted),
        areas=stores.find_areas(),
        is_narrowed=wanted != StoreFilter(),
    )


@blueprint.get("/stores.csv", endpoint="stores_csv")
@validated
def save_stores(query: schemas.StoresQuery) -> Response:
    """The stores that the list shows, as a file that can be loaded again."""
    wanted = StoreFilter(query.search, query.area)

    def written() -> Iterator[str]:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["AreaCode", "StoreName", "StoreID"])
        cursor: str | None = None
        while True:
            found, cursor = stores.find(wanted, cursor=cursor, per_page=STORES_A_SLICE)
            for store in found:
                writer.writerow([spreadsheets.inert(cell) for cell in (store.area, store.name, store.id)])
            yield text.getvalue()
            text.seek(0)
            text.truncate()
            if cursor is None:
                return

    answer = Response(stream_with_context(written()), mimetype="text/csv; header=present")
    answer.headers["Content-Disposition"] = 'attachment; filename="stores.csv"'
    return answer


@blueprint.get("/stores/load", endpoint="ask_load_stores")
@needs("admin")
@validated
def ask_load(query: schemas.LoadedQuery) -> Response:
    return page("stores/load.html", section="pages.stores", query=query)


@blueprint.post("/stores/preview", endpoint="preview_stores")
@needs("admin")
def preview_load() -> Response:
    """What a file would do. It comes back within the form that loads it, so that nothing is kept meanwhile."""
    file = request.files.get("file")
    content = file.read(FILE_MOST_BYTES + 1) if file else b""
    if not content:
        return page("stores/load.html", section="pages.stores", problem="Choose a file that holds something.")
    if len(content) > FILE_MOST_BYTES:
        return page("stores/load.html", section="pages.stores", problem="The file is larger than 8 MB: divide it.")
    try:
        preview = stores.preview(io.BytesIO(content), most=CHANGES_SHOWN)
    except InvalidRequestError as error:
        return page("stores/load.html", section="pages.stores", problem=f"{error}.")
    text = base64.b64encode(content).decode()
    return page("stores/preview.html", section="pages.stores", preview=preview, content=text, most=CHANGES_SHOWN)


@blueprint.post("/stores/load", endpoint="load_stores")
@needs("admin")
def load() -> Response:
    request.max_form_memory_size = 2 * FILE_MOST_BYTES
    try:
        content = base64.b64decode(request.form.get("content", ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError("content: not what the preview has sent") from error
    report = stores.load(io.BytesIO(content))
    done = url_for(
        ".ask_load_stores",
        added=report.added,
        changed=report.changed,
        unchanged=report.unchanged,
        refused=len(report.refused),
    )
    return see(done)


@blueprint.get("/stores/<path:store_id>", endpoint="store")
@validated
def get_store(path: schemas.StorePath, query: schemas.StoreQuery) -> Response:
    """The last three months that the store was visited in, or those asked for."""
    store = stores.get(path.store_id)
    newest = visit_tables.find(Wanted(store_id=store.id), cursor=None, per_page=1).visits
    end = query.end or (datetime.combine(newest[0].visited_at, time.max) if newest else None)
    start = query.start or (datetime.combine(end - timedelta(days=DAYS_SHOWN - 1), time.min) if end else None)
    if start and end and start > end:
        raise InvalidRequestError("start: later than end")
    wanted = Wanted(start, end, store_id=store.id)
    days = visit_groups.find(wanted, Group.DAY)[::-1]
    read = [
        (row.key, row.completed, row.perimeter / row.completed)
        for row in days
        if isinstance(row.key, date) and row.completed
    ]
    return page(
        "stores/store.html",
        section="pages.stores",
        store=store,
        start=start,
        end=end,
        days=days,
        newest=newest[0] if newest else None,
        chart=charts.line([(day, perimeter) for day, _, perimeter in read], "px"),
        read=read,
        errors=visit_groups.count_errors(wanted) if newest else [],
        gaps=visit_groups.gaps(days, at_least=GAP_DAYS),
        gap_days=GAP_DAYS,
        visits=visit_tables.find(wanted, sort=Sort.NEWEST, cursor=None, per_page=VISITS_SHOWN).visits,
        states=VisitState,
    )
