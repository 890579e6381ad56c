"""Excel files that are too large to wait for: asked for, built by a worker, fetched, forgotten."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import openpyxl
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from app.domain import access, exports, keys, leases, transactions, visit_files
from app.domain.access import Caller, Scope
from app.domain.keys import NewKey
from app.domain.visit_files import Asked
from app.domain.visit_groups import Group
from app.domain.visit_tables import Sort, Wanted
from app.errors import NotFoundError, TooLargeError
from app.extensions import storage
from app.models import Export, ExportState, VisitState
from app.reports import sheets
from app.sql import db_now
from app.web.pages import visits as page
from tests.integration import hands
from tests.integration.test_visit_tables import STORES, fill

BROWSER = {"Sec-Fetch-Site": "same-origin"}
QUERY = "start=2020-09-01&end=2020-10-31&sort=oldest"


@pytest.fixture
def app(make_app: Callable[..., Flask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """400 visits, more than are waited for and than a sheet holds."""
    monkeypatch.setattr(page, "ROWS_AT_ONCE", 100)
    monkeypatch.setattr(sheets, "ROWS_A_SHEET", 151)
    made = make_app(STORAGE_URL=(tmp_path / "files").as_uri())
    hands.add_stores(made, STORES)
    fill(made)
    return made


def ask(client: FlaskClient, query: str = QUERY, token: str = "t1") -> str:
    answer = client.post(f"/dashboard/exports?{query}", data={"token": token}, headers=BROWSER)
    assert answer.status_code == 303, answer.text
    return answer.headers["Location"]


def build(app: Flask) -> bool:
    with app.app_context():
        return exports.build_next(lambda: False)


def test_a_large_file_is_built_by_a_worker_and_holds_what_the_page_shows(app: Flask, client: FlaskClient) -> None:
    asked = client.get(f"/dashboard/visits.xlsx?{QUERY}")
    assert asked.status_code == 200 and "An Excel file of 400 rows" in asked.text
    address = ask(client)
    assert ask(client) == address  # the second click
    assert "It waits for a worker" in client.get(address).text
    assert client.get(f"{address}.xlsx").status_code == 404
    assert build(app) and not build(app)
    assert "Download" in client.get(address).text
    answer = client.get(f"{address}.xlsx")
    assert answer.headers["Content-Type"] == exports.TYPE
    assert re.search(r'attachment; filename="?visits-[0-9-]+\.xlsx', answer.headers["Content-Disposition"])
    book = openpyxl.load_workbook(io.BytesIO(answer.data), read_only=True)
    assert book.sheetnames == ["visits", "visits 2", "visits 3"]
    rows = [row for sheet in book for row in sheet.iter_rows(min_row=2, values_only=True)]
    with app.app_context():
        wanted = Wanted(datetime(2020, 9, 1), datetime(2020, 10, 31, 23, 59, 59, 999_999))
        meant = list(visit_files.rows(Asked(wanted, sort=Sort.OLDEST)))
    assert [(row[0], row[1], row[9], row[10]) for row in rows] == [(row[0], row[1], row[9], row[10]) for row in meant]
    assert all(next(sheet.iter_rows(values_only=True)) == visit_files.VISIT_TITLES for sheet in book)


def test_a_small_file_and_groups_come_at_once(app: Flask, client: FlaskClient) -> None:
    for query in ("start=2020-09-01&end=2020-09-02", f"{QUERY}&group=store", "start=1999-01-01&end=1999-01-01"):
        answer = client.get(f"/dashboard/visits.xlsx?{query}")
        assert answer.headers["Content-Type"] == exports.TYPE, query
        assert openpyxl.load_workbook(io.BytesIO(answer.data)).sheetnames[0] == "visits"


def test_what_is_asked_for_is_stored_as_it_was(app: Flask) -> None:
    with app.app_context():
        for asked in (
            Asked(Wanted(), None, Sort.LARGEST),
            Asked(Wanted(datetime(2020, 9, 1), datetime(2020, 9, 2, 1, 2, 3, 4), "A1", "S1", 7, VisitState.FAILED)),
            Asked(Wanted(), Group.AREA, Sort.NEWEST, "failed"),
        ):
            export = exports.create(asked)
            assert Asked.of_json(exports.get(export.id).asked) == asked


def test_a_file_that_a_dead_or_stopped_worker_began_is_built_by_the_next(app: Flask, client: FlaskClient) -> None:
    address = ask(client)
    with app.app_context():
        assert exports.build_next(lambda: True)  # it is asked to end
        lost = leases.claim(Export)  # it dies
        assert lost and not exports.build_next(lambda: False)
        transactions.run(lambda session: session.execute(update(Export).values(due_at=db_now())))
        assert exports.build_next(lambda: False)
        with pytest.raises(leases.LeaseLostError):
            lost.renew()
    assert client.get(f"{address}.xlsx").status_code == 200


def test_one_that_cannot_be_stored_is_tried_again_and_then_says_why(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    address = ask(client)
    in_the_way = tmp_path / "files"
    in_the_way.write_bytes(b"where the folder should be")
    for _ in range(leases.MOST_ATTEMPTS):
        with app.app_context():
            transactions.run(lambda session: session.execute(update(Export).values(due_at=db_now())))
        assert build(app)
    text = client.get(address).text
    assert "It could not be built" in text and 'role="alert"' in text


def test_too_many_rows_are_refused_and_csv_is_offered(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "MOST_ROWS", 399)
    with app.app_context(), pytest.raises(TooLargeError, match="400 rows are more than the 399"):
        exports.create(Asked(Wanted()))
    text = client.get(f"/dashboard/visits.xlsx?{QUERY}").text
    assert "take CSV" in text and "Build the Excel file" not in text
    answer = client.post(f"/dashboard/exports?{QUERY}", headers=BROWSER | {"Accept": "text/html"})
    assert answer.status_code == 413


def test_files_are_forgotten_after_some_days(app: Flask, client: FlaskClient) -> None:
    address = ask(client)
    build(app)
    with app.app_context():
        assert exports.forget() == 0
        key = exports.get(address.rpartition("/")[2]).storage_key
        long_ago = update(Export).values(created_at=db_now(-8 * 86_400))
        transactions.run(lambda session: session.execute(long_ago))
        assert exports.forget() == 1
        assert [stat for stat in storage.list("exports") if stat.key == key] == []
    assert client.get(address).status_code == 404


def test_a_file_is_its_owners_and_what_everybody_owns_only_an_admins(app: Flask) -> None:
    with app.test_request_context():
        access.enter(Caller(7, frozenset({Scope.READ})))
        own = exports.create(Asked(Wanted())).id
        access.enter(Caller(7, frozenset({Scope.ADMIN})))
        everybodys = exports.create(Asked(Wanted())).id
    while build(app):
        pass
    with app.test_request_context():
        access.enter(Caller(7, frozenset({Scope.READ})))
        assert exports.get(own).rows_total == 0 and exports.get(own).state is ExportState.DONE
        with pytest.raises(NotFoundError):
            exports.get(everybodys)
        access.enter(Caller(8, frozenset({Scope.READ})))
        with pytest.raises(NotFoundError):
            exports.get(own)
        access.enter(Caller(1, frozenset({Scope.ADMIN})))
        assert exports.get(everybodys).rows_total == 400
        book = openpyxl.load_workbook(io.BytesIO(storage.read(str(exports.get(own).storage_key))))
    assert book["visits"].max_row == 1


def test_a_key_that_may_only_read_may_have_a_file_built(make_app: Callable[..., Flask]) -> None:
    app = make_app(AUTH="keys")
    with app.app_context():
        key = keys.create(NewKey("reader", frozenset({Scope.READ}))).text or ""
    answer = app.test_client().post("/dashboard/exports?group=day", headers=BROWSER | {"X-API-Key": key})
    assert answer.status_code == 303
