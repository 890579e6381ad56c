"""The tables of the visits page: every page of every sort, groups, files, who sees what, what the database reads."""

from __future__ import annotations

import csv
import io
import random
import re
import zipfile
from datetime import date, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, insert, text

from app.domain import access, transactions, visit_groups, visit_sums, visit_tables
from app.domain.access import Caller, Scope
from app.domain.visit_groups import Group
from app.domain.visit_tables import Sort, VisitRow, Wanted
from app.errors import InvalidRequestError
from app.extensions import db
from app.models import Visit, VisitState
from tests.integration import hands

STORES = {f"S{number:02}": (f"A{number % 3}", f"Store {number}") for number in range(12)} | {"S12": ("A9", "=cmd()")}
BEGIN = datetime(2020, 9, 1)


def fill(app: Flask, visits: int = 400, *, seed: int = 7, job_id: int = 1000) -> None:
    """Visits over 40 days, many at the same moment; some of stores that nobody knows."""
    rng = random.Random(seed)
    rows = []
    for seq in range(visits):
        state = rng.choice([VisitState.COMPLETED] * 5 + [VisitState.FAILED, VisitState.OPEN, VisitState.CANCELLED])
        images, failed = rng.randrange(1, 5), int(state is VisitState.FAILED)
        rows.append(
            {
                "job_id": job_id,
                "seq": seq,
                "store_id": rng.choice([*STORES, "NOWHERE"]),
                "visited_at": BEGIN + timedelta(hours=rng.randrange(40 * 4) * 6),
                "visited_as_sent": "x",
                "state": state,
                "images_total": images,
                "images_open": images if state is VisitState.OPEN else 0,
                "images_failed": failed,
                "images_cancelled": 0,
                "perimeter": rng.randrange(50) * 100,
                "seconds": 0.25 * images,
                "error_code": "http_404" if failed else None,
                "error_message": "gone" if failed else None,
                "version": 1,
            }
        )
    with app.app_context():
        transactions.run(lambda session: session.connection().execute(insert(Visit.__table__), rows))
        visit_sums.recount()
        visit_sums.fold(most=100)  # the rest is left beside the sums


@pytest.fixture
def filled(app: Flask) -> Flask:
    hands.add_stores(app, STORES)
    fill(app)
    return app


def every(wanted: Wanted, sort: Sort, per_page: int = 37) -> list[VisitRow]:
    found: list[VisitRow] = []
    cursor = None
    while True:
        page = visit_tables.find(wanted, sort=sort, cursor=cursor, per_page=per_page)
        found += page.visits
        cursor = page.next
        if cursor is None:
            return found


ORDERS = {
    Sort.NEWEST: lambda row: (row.visited_at, row.store_id, row.job_id, row.seq),
    Sort.OLDEST: lambda row: (row.visited_at, row.store_id, row.job_id, row.seq),
    Sort.LARGEST: lambda row: (-row.perimeter, row.job_id, row.seq),
    Sort.SMALLEST: lambda row: (row.perimeter, row.job_id, row.seq),
    Sort.FAILED: lambda row: (-row.images_failed, -row.visited_at.timestamp(), row.job_id, row.seq),
}


@pytest.mark.parametrize("sort", Sort)
def test_pages_of_every_sort_join_up_to_all_visits_in_order(filled: Flask, sort: Sort) -> None:
    with filled.app_context():
        found = every(Wanted(), sort)
        assert len(found) == len(set(found)) == 400
        assert found == sorted(found, key=ORDERS[sort], reverse=sort is Sort.NEWEST)
        assert [row for part in visit_tables.read(Wanted(), sort) for row in part] == found


@pytest.mark.parametrize(
    ("wanted", "is_meant"),
    [
        (Wanted(state=VisitState.FAILED), lambda row: row.state is VisitState.FAILED),
        (Wanted(area="A1"), lambda row: row.area == "A1"),
        (Wanted(store_id="S04"), lambda row: row.store_id == "S04"),
        (Wanted(store_id="S04", area="A2"), lambda _: False),
        (Wanted(start=datetime(2020, 9, 9), end=datetime(2020, 9, 11)),
         lambda row: datetime(2020, 9, 9) <= row.visited_at <= datetime(2020, 9, 11)),
        (Wanted(job_id=1000, state=VisitState.OPEN), lambda row: row.state is VisitState.OPEN),
        (Wanted(job_id=2), lambda _: False),
    ],
)  # fmt: skip
def test_filters_narrow_rows_counts_and_groups_alike(filled: Flask, wanted: Wanted, is_meant: object) -> None:
    with filled.app_context():
        everything = every(Wanted(), Sort.NEWEST)
        meant = [row for row in everything if is_meant(row)]  # type: ignore[operator]
        assert every(wanted, Sort.NEWEST) == meant
        assert visit_tables.count(wanted, most=1000) == len(meant)
        for group in Group:
            assert sum(row.visits for row in visit_groups.find(wanted, group)) == len(meant)


def test_groups_add_up(filled: Flask) -> None:
    with filled.app_context():
        everything = every(Wanted(), Sort.NEWEST)
        stores = {row.key: row for row in visit_groups.find(Wanted(), Group.STORE)}
        assert set(stores) == {*STORES, "NOWHERE"}
        of_one = [row for row in everything if row.store_id == "S05"]
        found = stores["S05"]
        completed = [row for row in of_one if row.state is VisitState.COMPLETED]
        assert (found.name, found.area, found.visits) == ("Store 5", "A2", len(of_one))
        assert (found.completed, found.perimeter) == (len(completed), sum(row.perimeter for row in completed))
        assert found.images_failed == found.failed == sum(row.state is VisitState.FAILED for row in of_one)
        areas = visit_groups.find(Wanted(), Group.AREA)
        assert [row.key for row in areas] == ["A0", "A1", "A2", "A9", None]
        days = visit_groups.find(Wanted(), Group.DAY)
        assert [row.key for row in days] == [date(2020, 9, 1) + timedelta(days=n) for n in reversed(range(40))]
        weeks = visit_groups.find(Wanted(), Group.WEEK)
        assert weeks[-1].key == date(2020, 8, 31)  # a Monday
        assert sum(row.perimeter for row in weeks) == sum(row.perimeter for row in areas)
        by_failed = visit_groups.find(Wanted(), Group.STORE, sort="failed")
        assert [row.failed for row in by_failed] == sorted((row.failed for row in stores.values()), reverse=True)


def test_too_many_to_be_sorted_says_what_to_do(filled: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit_tables, "MOST_SORTED", 399)
    with filled.app_context(), pytest.raises(InvalidRequestError, match="narrow the dates"):
        visit_tables.find(Wanted(), sort=Sort.LARGEST, cursor=None, per_page=10)
    assert "narrow the dates" in filled.test_client().get("/dashboard/visits?sort=largest&start=2020-01-01").text


def test_the_days_shown_are_the_last_that_have_data(app: Flask) -> None:
    hands.add_stores(app, STORES)
    with app.app_context():
        assert visit_tables.last_days() is None
    client = app.test_client()
    times = ["2020-09-01", "2020-09-03", "2020-09-03T12:00:00Z", "2020-10-09", "9999-12-31"]
    hands.submit(client, *(hands.visit("S01", 1, time) for time in times))
    with app.app_context():
        assert visit_tables.last_days(2) == (date(2020, 9, 3), date(2020, 10, 9))
        assert visit_tables.last_days(7) == (date(2020, 9, 1), date(2020, 10, 9))


def test_files_hold_exactly_what_the_page_shows(filled: Flask) -> None:
    client = filled.test_client()
    query = "start=2020-09-05&end=2020-09-20&area=A9&sort=oldest"
    rows = list(csv.DictReader(io.StringIO(client.get(f"/dashboard/visits.csv?{query}").text)))
    with filled.app_context():
        wanted = Wanted(datetime(2020, 9, 5), datetime(2020, 9, 20, 23, 59, 59, 999999), "A9")
        shown = every(wanted, Sort.OLDEST)
    assert [(row["store_id"], int(row["visit"])) for row in rows] == [(row.store_id, row.seq) for row in shown]
    assert rows and rows[0]["store_name"] == "'=cmd()"  # inert in a spreadsheet
    book = client.get(f"/dashboard/visits.xlsx?{query}")
    with zipfile.ZipFile(io.BytesIO(book.data)) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
    assert sheet.count("<row ") == len(shown) + 1 and "<f>" not in sheet
    by_day = client.get(f"/dashboard/visits.csv?{query}&group=day").text.splitlines()
    assert by_day[0].startswith('"day","visits","completed"')
    assert client.get("/dashboard/visits.csv?sort=odd").status_code == 400


def test_somebody_elses_visits_are_not_there(filled: Flask, client: FlaskClient) -> None:
    job_id = hands.submit(client, hands.visit("S01", 2, "2020-09-09"))
    with filled.test_request_context():
        access.enter(Caller(42, frozenset({Scope.READ})))
        assert visit_tables.last_days() is None
        assert every(Wanted(), Sort.NEWEST) == [] and visit_groups.find(Wanted(), Group.AREA) == []
        access.enter(access.SERVICE)
        assert job_id and len(every(Wanted(), Sort.NEWEST)) == 401


def test_a_page_walks_the_index_and_reads_no_more_than_it_shows(filled: Flask, backend: object) -> None:
    """The plan of every statement of a page, as the server has it."""
    if filled.config["SETTINGS"].database_url.startswith("sqlite"):
        pytest.skip("its planner needs no hints, and its plans tell no rows")
    statements: list[tuple[str, object]] = []
    with filled.app_context():
        fill(filled, 5000, job_id=2000)
        transactions.run(lambda session: session.execute(text("ANALYZE TABLE visits")).all())
        listen = (db.engine, "before_cursor_execute", lambda *call: statements.append((call[2], call[3])))
        event.listen(*listen)  # type: ignore[arg-type]
        page = visit_tables.find(Wanted(), sort=Sort.NEWEST, cursor=None, per_page=50)
        visit_tables.find(Wanted(store_id="S04"), sort=Sort.OLDEST, cursor=None, per_page=50)
        visit_tables.find(Wanted(), sort=Sort.NEWEST, cursor=page.next, per_page=50)
        event.remove(*listen)  # type: ignore[arg-type]
        walks = [each for each in statements if "visited_at" in each[0]]
        assert len(walks) == 12
        for statement, parameters in walks:
            with db.engine.connect() as connection:
                plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).mappings().one()  # type: ignore[arg-type]
            assert plan["key"] in ("ix_visits_time", "ix_visits_store")
            assert not re.search("filesort|temporary", plan["Extra"] or ""), plan
