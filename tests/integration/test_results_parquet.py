"""GET /api/jobs/<id>/results.parquet: whole jobs as typed tables, read here by DuckDB as users of it do."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import parquetfile
from app.domain import results
from app.web.parquet import OWN_COLUMNS
from app.web.results import COLUMNS
from testbed.processes import wait_for
from tests.integration.exported import expect_broken_off, make_job, note_pages, set_results

on_one_backend = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def job(app: Flask, client: FlaskClient) -> int:
    return make_job(app, client)


class Table:
    """A Parquet file as DuckDB sees it."""

    def __init__(self, path: Path, body: bytes) -> None:
        path.write_bytes(body)
        self._found = duckdb.connect().execute(f"SELECT * FROM '{path}'")
        self.types = {name: str(kind) for name, kind, *_ in self._found.description}
        self.rows = [dict(zip(self.types, row, strict=True)) for row in self._found.fetchall()]


@pytest.fixture
def read(client: FlaskClient, tmp_path: Path) -> Any:
    def read(job: int, query: str = "") -> Table:
        answer = client.get(f"/api/jobs/{job}/results.parquet?{query}")
        assert answer.status_code == 200, answer.text
        return Table(tmp_path / "results.parquet", answer.data)

    return read


def test_every_image_stands_there_with_its_visit_and_store(read: Any, job: int) -> None:
    found = read(job).rows
    assert [row["seq"] for row in found] == [0, 1, 2, 3]
    good, bad, other, unknown = found
    assert list(good) == COLUMNS
    assert (good["state"], good["perimeter"], good["bytes"], good["seconds"]) == ("done", 1000, 20_000, 0.25)
    assert (good["store_id"], good["area"], good["store_name"]) == ("S00339218", "710006", "BHARAT STORE")
    assert good["visit_time"] == datetime(2020, 9, 2, 0, 0, 53, tzinfo=UTC)
    assert (bad["state"], bad["error_code"], bad["width"]) == ("failed", "http_404", None)
    assert (other["store_name"], other["visit"]) == ("Müller, Söhne & Cie", 1)
    assert (unknown["store_id"], unknown["error_code"], unknown["store_name"]) == ("NOWHERE", "unknown_store", None)


@on_one_backend
def test_columns_have_the_types_of_what_they_hold(read: Any, job: int) -> None:
    types = read(job).types
    numbers = {"job_id", "seq", "width", "height", "perimeter", "bytes", "attempts", "visit"}
    times = {"next_attempt_at", "settled_at", "visit_time", "captured_at"}
    for name, kind in types.items():
        expected = "BIGINT" if name in numbers else "TIMESTAMP WITH TIME ZONE" if name in times else "VARCHAR"
        assert kind == ("DOUBLE" if name == "seconds" else expected), name
    assert len(types) == len(OWN_COLUMNS)


@on_one_backend
def test_fields_of_processors_are_columns_of_their_types(app: Flask, read: Any, job: int) -> None:
    def of(result: Any) -> dict[str, Any]:
        return {"p": {"version": "1", "result": result}}

    first = {"n": 1, "f": 1, "b": True, "s": "x", "mixed": 1, "list": [1, "a"], "gps": {"lat": 12.5}, "none": None}
    set_results(app, job, {0: of(first), 1: of({"n": -(2**63), "f": 0.5, "mixed": "é", "b": None}), 2: of({"b": 0.5})})
    table = read(job)
    kinds = {name.removeprefix("p."): kind for name, kind in table.types.items() if name.startswith("p.")}
    text = dict.fromkeys(["b", "s", "mixed", "list", "none"], "VARCHAR")
    assert kinds == text | {"n": "BIGINT", "f": "DOUBLE", "gps.lat": "DOUBLE"}
    shown = [{name.removeprefix("p."): row[name] for name in row if name.startswith("p.")} for row in table.rows]
    assert shown[0] == {
        **{"n": 1, "f": 1.0, "b": "true", "s": "x", "mixed": "1", "list": '[1, "a"]', "gps.lat": 12.5, "none": None}
    }
    assert (shown[1]["n"], shown[1]["f"], shown[1]["mixed"], shown[2]["b"]) == (-(2**63), 0.5, "é", "0.5")
    assert set(shown[3].values()) == {None}


@on_one_backend
def test_a_value_that_its_column_cannot_hold_stands_with_the_rest(
    app: Flask, read: Any, job: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a retry that goes on between the look for the columns and their rows."""
    set_results(app, job, {1: {"p": {"version": "1", "result": {"n": 1, "b": True}}}})
    monkeypatch.setattr(results, "ROWS_A_PAGE", 1)
    find_fields = results.find_fields

    def and_then_change(*args: Any, **more: Any) -> Any:
        found = find_fields(*args, **more)
        changed = {"n": 2**64 - 1, "b": 1, "new": [1]}
        set_results(app, job, {1: {"p": {"version": "1", "result": changed}}})
        return found

    monkeypatch.setattr(results, "find_fields", and_then_change)
    row = read(job).rows[1]
    assert (row["p.n"], row["p.b"]) == (None, None)
    assert row["more_results"] == '{"p.new": [1], "p.n": 18446744073709551615, "p.b": 1}'


@on_one_backend
def test_fields_of_the_same_title_are_one_column(app: Flask, read: Any, job: int) -> None:
    set_results(
        app, job, {0: {"a": {"version": "1", "result": {"b.c": 1}}, "a.b": {"version": "1", "result": {"c": 2}}}}
    )
    row = read(job).rows[0]
    assert (row["a.b.c"], row["more_results"]) == (1, '{"a.b.c": 2}')


@on_one_backend
def test_only_what_was_asked_for_is_exported(read: Any, job: int) -> None:
    assert [row["seq"] for row in read(job, "state=failed").rows] == [1, 3]
    assert [row["seq"] for row in read(job, "state=failed&error_code=http_404").rows] == [1]
    nothing = read(job, "state=cancelled")
    assert (nothing.rows, list(nothing.types)) == ([], COLUMNS)


@on_one_backend
def test_it_is_sent_as_a_file_with_a_name(client: FlaskClient, job: int) -> None:
    answer = client.get(f"/api/jobs/{job}/results.parquet")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="job-{job}-results.parquet"'
    assert answer.mimetype == "application/vnd.apache.parquet"
    missing = client.get("/api/jobs/99/results.parquet")
    assert (missing.status_code, missing.json) == (404, {"error": "no such job"})
    assert client.get("/api/jobs/1/results.parquet?state=odd").status_code == 400


@pytest.fixture
def large_job(app: Flask, job: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """A page and a group a row, each so large that it goes out at once."""
    monkeypatch.setattr(results, "ROWS_A_PAGE", 1)
    monkeypatch.setattr(parquetfile, "ROWS_A_GROUP", 1)
    set_results(app, job, {seq: {"p": {"version": "1", "result": os.urandom(50_000).hex()}} for seq in range(4)})
    return job


@on_one_backend
def test_groups_go_out_while_later_pages_are_not_read_yet(
    client: FlaskClient, large_job: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = note_pages(monkeypatch)
    answer = client.get(f"/api/jobs/{large_job}/results.parquet", buffered=False)
    assert [len(pages) for _piece in answer.response] == [1, 2, 3, 4, 5]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "parquet"]


@on_one_backend
def test_a_database_that_fails_on_the_way_breaks_the_answer_off(
    client: FlaskClient, large_job: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client.get(f"/api/jobs/{large_job}/results.parquet", buffered=False)
    expect_broken_off(answer, monkeypatch)
    wait_for(lambda: not threads(), 10, what="the end of the thread")


@on_one_backend
def test_a_client_that_goes_away_leaves_no_thread_behind(client: FlaskClient, large_job: int) -> None:
    answer = client.get(f"/api/jobs/{large_job}/results.parquet", buffered=False)
    next(iter(answer.response))
    assert threads()
    answer.close()
    wait_for(lambda: not threads(), 10, what="the end of the thread")
