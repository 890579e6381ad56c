"""Visits: rows, groups, filters and files."""

from __future__ import annotations

import io

import openpyxl
import pytest
from playwright.sync_api import expect

from testbed import processes
from tests.browser.conftest import Site, Watched
from tests.integration import hands


def test_without_visits_it_says_what_to_do_first(site: Site, watched: Watched) -> None:
    page = watched.open("/dashboard/visits")
    expect(page.get_by_role("heading", name="No visits yet")).to_be_visible()
    watched.expect_accessible()
    watched.expect_fits_a_phone()


@pytest.fixture(scope="module")
def visits(site: Site) -> None:
    """120 visits in two months of 2020; one in ten failed."""
    hands.add_stores(site.app, hands.STORES | {"S03": ("710009", "<b>Bold</b> & Sons")})
    stores = [*hands.STORES, "S03"]
    sent = [
        hands.visit(stores[n % 4], 2, f"2020-{9 + n // 60:02}-{1 + n % 28:02}T{n % 24:02}:00:00Z") for n in range(120)
    ]
    hands.submit(site.app.test_client(), *sent)
    hands.work_off(site.app, lambda work: hands.failed(work) if work.seq % 20 == 4 else hands.done(work))


def test_the_last_days_that_have_data_are_shown_first(site: Site, visits: None, watched: Watched) -> None:
    page = watched.open("/dashboard/visits")
    expect(page.locator(".head p").first).to_contain_text("2020-10-22 to 2020-10-28, the last days that have data")
    expect(page.locator("tbody")).to_contain_text("<b>Bold</b> & Sons")
    watched.expect_accessible()
    watched.expect_fits_a_phone()


def test_filters_and_pages_stand_in_the_address(visits: None, watched: Watched) -> None:
    page = watched.open("/dashboard/visits")
    page.get_by_label("From").fill("2020-09-01")
    page.get_by_label("to", exact=True).fill("2020-10-31")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**start=2020-09-01**")
    assert page.locator("tbody tr").count() == 50
    page.get_by_role("link", name="Next page").click()
    page.wait_for_url("**cursor=**")
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_text("This is the last page.")).to_be_visible()
    page.reload()
    assert page.locator("tbody tr").count() == 20
    page.get_by_label("Area").fill("710009")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**area=710009**")
    assert page.locator("tbody tr").count() == 50
    page.get_by_role("link", name="Perimeter, px").click()
    page.wait_for_url("**sort=largest**")
    page.reload()
    assert page.get_by_label("Area").input_value() == "710009"
    expect(page.locator("th[aria-sort]")).to_contain_text("Perimeter")


def test_groups_lead_down_to_the_images(visits: None, watched: Watched) -> None:
    page = watched.open("/dashboard/visits?start=2020-09-01&end=2020-10-31&group=area")
    watched.expect_accessible()
    page.get_by_role("link", name="710006").click()
    page.wait_for_url("**group=store**")
    page.get_by_role("link", name="S00339218").click()
    page.wait_for_url("**store=S00339218**")
    page.get_by_role("link", name="job 1").first.click()
    assert page.locator("#job tbody tr").count() == 2
    page = watched.open("/dashboard/visits?start=2020-09-01&end=2020-10-31&group=week")
    page.locator("tbody a").first.click()
    page.wait_for_url("**start=2020-10-26&end=2020-11-01**")


def test_files_are_of_what_is_shown(visits: None, watched: Watched) -> None:
    page = watched.open("/dashboard/visits?start=2020-09-01&end=2020-09-10&group=day")
    shown = page.locator("tbody tr").count()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert len(download.value.path().read_text().splitlines()) == shown + 1
    with page.expect_download() as workbook:
        page.get_by_role("link", name="Excel").click()
    assert workbook.value.suggested_filename == "visits.xlsx"


@pytest.mark.parametrize("query", ["start=soon", "start=2020-10-02&end=2020-10-01", "cursor=x", "group=moon"])
def test_what_cannot_be_shown_is_said(query: str, watched: Watched) -> None:
    page = watched.open(f"/dashboard/visits?{query}", 400)
    expect(page.get_by_role("heading", level=1)).to_have_text("That cannot be shown")


def test_an_excel_file_is_built_while_one_watches(site: Site, visits: None, watched: Watched) -> None:
    client = site.app.test_client()
    sent = client.post("/dashboard/exports?group=store", data={"token": "t"}, headers={"Sec-Fetch-Site": "same-origin"})
    page = watched.open(sent.headers["Location"])
    expect(page.get_by_role("status").first).to_contain_text("It waits for a worker")
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    with processes.worker(site.env, site.folder / "worker.log"):
        download = page.get_by_role("link", name="Download")
        expect(download).to_be_visible()
    watched.expect_accessible()
    with page.expect_download() as begun:
        download.click()
    assert openpyxl.load_workbook(io.BytesIO(begun.value.path().read_bytes()))["visits"].max_row > 1
    watched.open("/dashboard/exports/0123", 404)
