"""What clients write is text in the workbooks of the pages, and never a formula."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest
from flask import Flask

from app.domain import exports
from app.web.pages import visits as page
from tests.integration import hands

STARTS = ("=", "+", "-", "@", "\t=", "\r=", "\uff1d")
STORES = {
    f"{start.strip() or '='}S{n}": (f"{start}area", f"{start}cmd|' /C calc'!A0") for n, start in enumerate(STARTS)
}
QUERY = "start=2020-09-01&end=2020-09-30"


@pytest.fixture
def app(make_app: Callable[..., Flask], tmp_path: Path) -> Flask:
    made = make_app(STORAGE_URL=(tmp_path / "files").as_uri())
    hands.add_stores(made, STORES)
    hands.submit(made.test_client(), *(hands.visit(store, 1, "2020-09-02") for store in STORES))
    with made.app_context():
        hands.settle(hands.claim(images=100), hands.done)
    return made


@pytest.mark.parametrize("group", ["", "&group=store", "&group=area"])
@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_names_of_stores_and_areas_are_no_formulas(
    app: Flask, monkeypatch: pytest.MonkeyPatch, group: str, is_large: bool
) -> None:
    client = app.test_client()
    address = f"/dashboard/visits.xlsx?{QUERY}{group}"
    if is_large:
        monkeypatch.setattr(page, "ROWS_AT_ONCE", 1)
        sent = {"data": {"token": "t1"}, "headers": {"Sec-Fetch-Site": "same-origin"}}
        asked = client.post(f"/dashboard/exports?{QUERY}{group}", **sent)
        with app.app_context():
            assert exports.build_next(lambda: False)
        address = f"{asked.location}.xlsx"
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    cells = [cell for sheet in openpyxl.load_workbook(io.BytesIO(answer.data)) for row in sheet for cell in row]
    assert {cell.data_type for cell in cells} <= {"s", "n", "b", "d", "inlineStr"}
    shown = "area" if "area" in group else "calc"
    assert sum(shown in str(cell.value) for cell in cells) >= len(STARTS)
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        sheets = [archive.read(name) for name in archive.namelist() if "worksheets/sheet" in name]
    assert sheets and not any(b"<f>" in sheet or b"<hyperlink" in sheet for sheet in sheets)
