"""What the overview, a store's page, the store master's page and the control room read, on both databases."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.domain import access, overviews, stores, troubles, workers
from app.domain.access import Caller, Scope
from app.domain.stores import StoreFilter
from app.domain.workers import Pace
from app.errors import NotFoundError
from testbed import processes
from tests.integration import hands

MASTER = (
    "AreaCode,StoreName,StoreID\n710006,BHARAT STORE,S00339218\n710006,Kaveri 100%,S01408764\n9,New_One,S9\n,,\n9,x,\n"
)


@pytest.fixture
def visited(app: Flask, client: FlaskClient) -> Flask:
    """A week of visits in two areas after a week with one; S02000001 is silent for its last days."""
    hands.add_stores(app)
    hands.submit(
        client,
        hands.visit("S00339218", 2, "2020-09-01T10:00:00Z"),
        hands.visit("S00339218", 2, "2020-09-08T00:00:00Z"),
        hands.visit("S01408764", ["https://host/bad.jpg"], "2020-09-14T23:59:59Z"),
        hands.visit("S02000001", 3, "2020-09-10T10:00:00Z"),
        hands.visit("NOWHERE", 1, "2020-09-10T10:00:00Z"),
    )
    hands.work_off(app, lambda work: hands.failed(work) if work.url == "https://host/bad.jpg" else hands.done(work))
    hands.submit(client, hands.visit("S00339218", 4, "2020-09-14"))
    return app


WEEK = (datetime(2020, 9, 8), datetime(2020, 9, 14, 23, 59, 59, 999_999))


def test_a_period_stands_against_the_one_before(visited: Flask) -> None:
    with visited.app_context():
        found = overviews.of(*WEEK, area=None, store_id=None, silent_days=3)
    assert [(str(row.key), row.visits, row.completed) for row in found.days] == [
        ("2020-09-08", 1, 1), ("2020-09-10", 2, 1), ("2020-09-14", 2, 0),
    ]  # fmt: skip
    assert [(str(row.key), row.visits) for row in found.before] == [("2020-09-01", 1)]
    assert [(row.key, row.perimeter) for row in found.areas] == [("710006", 2000), ("710009", 3000), (None, 0)]
    assert found.errors == [("http_404", 1), ("unknown_store", 1)]
    assert (found.covered, found.stores) == (3, 3)
    assert [(each.id, each.last_visit_at) for each in found.silent] == [("S02000001", datetime(2020, 9, 10, 10))]
    assert found.silent_total == 1 and found.silent_since == datetime(2020, 9, 12)


def test_a_period_narrows_to_an_area_or_a_store(visited: Flask) -> None:
    with visited.app_context():
        of_area = overviews.of(*WEEK, area="710009", store_id=None, silent_days=7)
        of_store = overviews.of(*WEEK, area=None, store_id="S01408764", silent_days=7)
    assert (sum(row.visits for row in of_area.days), of_area.stores, of_area.silent_total) == (1, 1, 0)
    assert (sum(row.visits for row in of_store.days), of_store.covered, of_store.errors) == (1, 1, [("http_404", 1)])


def test_now_adds_up_the_jobs_that_the_caller_sees(visited: Flask) -> None:
    with visited.test_request_context():
        access.enter(access.SERVICE)
        now = overviews.now()
        assert (now.jobs, now.ongoing, now.images, now.open, now.done, now.failed) == (2, 1, 13, 4, 7, 2)
        assert now.drain_seconds is None
        access.enter(Caller(7, frozenset({Scope.READ})))
        assert (overviews.now().jobs, overviews.now().images) == (0, 0)
        assert overviews.of(*WEEK, area=None, store_id=None, silent_days=7).days == []
        assert troubles.find().images == 0


def test_failures_are_told_by_host_and_reason(visited: Flask) -> None:
    with visited.app_context():
        found = troubles.find()
    assert (found.images, found.jobs) == (2, 1)
    assert sorted(found.by_host) == [("host", "http_404", 1), ("host", "unknown_store", 1)]


def test_a_preview_of_stores_says_what_loading_then_does(visited: Flask) -> None:
    with visited.app_context():
        preview = stores.preview(io.BytesIO(MASTER.encode()), most=10)
        assert stores.count(StoreFilter()) == 3
        assert [(each.row.store_id, each.area, each.name) for each in preview.changes] == [
            ("S01408764", "710006", "Kaveri Kirana"), ("S9", None, None),
        ]  # fmt: skip
        assert stores.load(io.BytesIO(MASTER.encode())) == preview.report
        again = stores.preview(io.BytesIO(MASTER.encode()), most=10)
        assert (again.report.unchanged, again.changes) == (3, [])


@pytest.mark.parametrize(
    ("search", "found"),
    [("bharat", ["S00339218"]), ("S0", ["S00339218", "S01408764", "S02000001"]), ("100%", ["S01408764"]),
     ("_", ["S9"]), ("%", ["S01408764"]), ("müller", ["S02000001"]), ("!", [])],
)  # fmt: skip
def test_stores_are_found_by_part_of_their_id_or_name(visited: Flask, search: str, found: list[str]) -> None:
    with visited.app_context():
        stores.load(io.BytesIO(MASTER.encode()))
        shown = [store.id for store in stores.find(StoreFilter(search), cursor=None, per_page=10)[0]]
        assert shown == found and stores.count(StoreFilter(search)) == len(found)


def test_pages_of_stores_join_up_and_are_saved_whole(visited: Flask) -> None:
    with visited.app_context():
        first, cursor = stores.find(StoreFilter(), cursor=None, per_page=2)
        rest, end = stores.find(StoreFilter(), cursor=cursor, per_page=2)
        assert [store.id for store in [*first, *rest]] == sorted(hands.STORES) and end is None
        assert first[0].last_visit_at == datetime(2020, 9, 14)
        with pytest.raises(NotFoundError):
            stores.get("s00339218")
    saved = visited.test_client().get("/dashboard/stores.csv").text
    assert [row["StoreID"] for row in csv.DictReader(io.StringIO(saved))] == sorted(hands.STORES)


def test_a_pace_is_what_came_since_it_was_asked_last() -> None:
    pace = Pace()
    pace.since_last(0)
    started = time.monotonic()
    while time.monotonic() - started < 0.05:
        pass
    assert 0 < pace.since_last(100) <= 100 / 0.05
    assert pace.since_last(100) == 0


def test_a_worker_tells_how_fast_it_is(
    app: Flask, client: FlaskClient, start_worker: Callable[..., Any], host: Any
) -> None:
    hands.add_stores(app)
    start_worker()
    hands.submit(client, hands.visit(images=[f"{host.url}/good0.jpg?{n}" for n in range(200)]))

    def rate() -> float:
        with app.app_context():
            return sum(worker.rate for worker, _ in workers.find())

    processes.wait_for(rate, 60, what="a beat that counts results")
    with app.app_context():
        assert overviews.now().rate >= 0 and overviews.now().workers == 1
