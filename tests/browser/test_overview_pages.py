"""Overview, stores, one store, submit and the control room: with nothing, with data, with what cannot be taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from demo.host import Host
from testbed import processes
from tests.browser.conftest import Site, Watched
from tests.integration import hands

MASTER = b"StoreID,StoreName,AreaCode\nS00339218,BHARAT STORE,710006\nS1,<b>One</b> & Co,9\n,No id,9\n"


def test_with_nothing_there_each_page_says_what_to_do_first(watched: Watched) -> None:
    page = watched.open("/")
    expect(page.get_by_role("heading", name="Load the store master first")).to_be_visible()
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    page = watched.open("/dashboard/stores")
    expect(page.get_by_role("heading", name="The store master is empty")).to_be_visible()
    watched.expect_accessible()
    page = watched.open("/dashboard/control")
    expect(page.locator("#control")).to_contain_text("None was seen in the last day")
    expect(page.locator("#findings")).to_contain_text("none is alive, 0 were seen in the last day: start one")
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    page = watched.open("/dashboard/submit")
    expect(page.locator(".alert")).to_contain_text("The store master is empty")
    watched.expect_accessible()
    watched.expect_fits_a_phone()


def load(watched: Watched, content: bytes) -> None:
    page = watched.open("/dashboard/stores/load")
    page.get_by_label("File").set_input_files({"name": "stores.csv", "mimeType": "text/csv", "buffer": content})
    page.get_by_role("button", name="Show what it would do").click()


def test_stores_are_loaded_after_a_look_at_what_would_happen(watched: Watched) -> None:
    load(watched, b"StoreID,Name\nS1,x\n")
    page = watched.page
    expect(page.get_by_role("alert")).to_contain_text("it lacks AreaCode, StoreName")
    load(watched, MASTER)
    expect(page.get_by_role("heading", level=1)).to_have_text("Load these stores?")
    expect(page.get_by_role("region", name="Refused lines")).to_contain_text("StoreID is empty")
    watched.expect_accessible()
    watched.open("/dashboard/stores")
    expect(page.get_by_role("heading", name="The store master is empty")).to_be_visible()  # nothing was written
    load(watched, MASTER)
    page.get_by_role("button", name="Load 2 stores").click()
    expect(page.locator("main [role=status]")).to_contain_text("2 stores were added, 0 changed")
    load(watched, MASTER.replace(b"BHARAT", b"Bharat"))
    expect(page.get_by_role("region", name="Changes").locator("del")).to_have_text("BHARAT STORE")
    page = watched.open("/dashboard/stores?search=bharat")
    assert page.locator("tbody tr").count() == 1
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    page.get_by_role("link", name="S00339218").click()
    expect(page.get_by_role("heading", name="No visits of this store yet")).to_be_visible()


def test_a_list_is_looked_through_and_then_submitted_once(site: Site, watched: Watched) -> None:
    hands.add_stores(site.app, {"S02": ("9", "Two")})
    page = watched.open("/dashboard/submit")
    page.get_by_label("URLs, one a line").fill(
        "https://host/1.jpg\nftp://host/2.jpg\nS02, 2019-09-02, https://host/a,b.jpg"
    )
    page.get_by_role("button", name="Look it through").click()
    expect(page.get_by_role("heading", level=2)).to_have_text("2 lines cannot be taken")
    expect(page.locator("td.reason").first).to_have_text("no store: name one above, or in the line")
    watched.expect_accessible()
    page.get_by_label("Store", exact=True).fill("NOWHERE")
    page.get_by_label("URLs, one a line").fill("https://host/1.jpg\nS02, 2019-09-02, https://host/a,b.jpg")
    page.get_by_role("button", name="Look it through").click()
    expect(page.locator("main")).to_contain_text("1 store not in the store master, whose images would fail: NOWHERE")
    assert '"https://host/a,b.jpg"' in page.locator("pre.curl").inner_text()
    watched.expect_fits_a_phone()
    page.get_by_role("button", name="Submit 2 images").click()
    expect(page.locator("main [role=status]")).to_contain_text("The job was taken in.")
    first = page.url
    page.go_back()
    page.get_by_role("button", name="Submit 2 images").click()
    page.wait_for_url(first)  # a second click finds the job of the first
    assert len(site.app.test_client().get("/api/jobs").json["results"]) == 1


@pytest.fixture(scope="module")
def history(site: Site) -> None:
    """Four weeks of visits in 2020, one in ten failed; S03 was seen in the first week only."""
    hands.add_stores(site.app, {"S03": ("8", "Three"), "S04": ("8", "Never")})
    sent = [
        hands.visit(store, 2, f"2020-09-{day:02}T10:00:00Z")
        for day in range(1, 29)
        for store in ("S00339218", "S02", *(["S03"] if day < 8 else []))
    ]
    hands.submit(site.app.test_client(), *sent)
    hands.work_off(site.app, lambda work: hands.failed(work) if work.seq % 20 == 4 else hands.done(work))


def test_the_overview_shows_a_period_against_the_one_before(history: None, watched: Watched) -> None:
    page = watched.open("/dashboard/?start=2020-09-08&end=2020-09-14")
    expect(page.locator("#period .chart")).to_be_visible()
    period = page.locator("#period")
    expect(period).to_contain_text("21 in the 7 days before")
    expect(period.locator(".fact", has_text="Stores covered")).to_contain_text("2of 5 in the master")
    expect(page.get_by_role("region", name="Silent stores").locator("tbody tr")).to_have_count(3)
    page.locator("#days-table summary").click()
    expect(page.get_by_role("region", name="Visits by day").locator("tbody tr")).to_have_count(7)
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    page.get_by_label("Area").fill("8")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**area=8**")
    expect(page.locator("#period")).to_contain_text("7 in the 7 days before")
    page.reload()
    assert page.get_by_label("Area").input_value() == "8"
    watched.open("/dashboard/?start=2031-01-01&end=2031-01-02")
    expect(page.get_by_role("heading", name="No visits in this period")).to_be_visible()


def test_a_store_has_its_timeline_failures_and_gaps(site: Site, history: None, watched: Watched) -> None:
    hands.submit(site.app.test_client(), hands.visit("S03", 1, "2020-09-20"))
    page = watched.open("/dashboard/stores/S03")
    expect(page.locator("main")).to_contain_text("12 days without a visit, 2020-09-08 to 2020-09-19")
    expect(page.locator(".chart")).to_be_visible()
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    page.get_by_role("link", name="All visits of these days").click()
    page.wait_for_url("**store=S03**")
    assert page.locator("tbody tr").count() == 8
    watched.open("/dashboard/stores/NOBODY", 404)


@pytest.fixture
def photos(tmp_path: Path) -> Iterator[Host]:
    Image.new("RGB", (64, 48)).save(tmp_path / "good.jpg")
    with Host(tmp_path) as running:
        yield running


def test_the_control_room_sees_workers_and_trouble(
    site: Site, history: None, watched: Watched, photos: Host, tmp_path: Path
) -> None:
    page = watched.open("/dashboard/control")
    with processes.worker(site.env, tmp_path / "worker.log", name="control"):
        urls = [f"{photos.url}/good.jpg?n={number}" for number in range(40)] + [f"{photos.url}/none.jpg"]
        hands.submit(site.app.test_client(), hands.visit(images=urls))
        expect(page.get_by_role("region", name="Workers").locator(".state")).to_have_text("alive", timeout=60_000)
        expect(page.get_by_role("region", name="Reasons")).to_contain_text("http_404", timeout=30_000)
        watched.expect_accessible()
        page.reload()
        expect(page.get_by_role("region", name="Failures by host")).to_contain_text("127.0.0.1")
