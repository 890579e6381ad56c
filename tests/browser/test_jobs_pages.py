"""Jobs, one job, one image: with data, with none, with an error, and live."""

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


def mixed(work: object) -> object:
    seq = work.seq  # type: ignore[attr-defined]
    if seq % 7 == 3:
        return hands.failed(work)  # type: ignore[arg-type]
    if seq % 7 == 5:
        return hands.failed(work, "timeout", "<script>alert(1)</script> & no answer")  # type: ignore[arg-type]
    return hands.done(work)  # type: ignore[arg-type]


def submit(site: Site, *visits: object, **more: object) -> int:
    return hands.submit(site.app.test_client(), *visits, **more)


def test_without_jobs_it_says_what_to_do_first(site: Site, watched: Watched) -> None:
    page = watched.open("/dashboard/jobs")
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    assert f"curl {site.url}/api/submit/" in page.locator("pre.curl").inner_text()
    watched.expect_accessible()
    watched.expect_fits_a_phone()


@pytest.fixture(scope="module")
def stores(site: Site) -> None:
    hands.add_stores(site.app)


@pytest.fixture(scope="module")
def job_id(site: Site, stores: None) -> int:
    """A job with 210 images, of which 60 failed for two reasons, and one of an unknown store."""
    visits = [hands.visit(store, 105) for store in ("S00339218", "S01408764")]
    found = submit(site, *visits, hands.visit("NOWHERE", 1), metadata={"order": "</script><b>7"})
    hands.work_off(site.app, mixed)  # type: ignore[arg-type]
    return found


def test_the_list_leads_to_the_job(job_id: int, watched: Watched) -> None:
    page = watched.open("/dashboard/jobs?state=failed")
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    page.get_by_role("link", name=str(job_id), exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Job {job_id}")


def test_filters_stand_in_the_address_and_survive_a_reload(job_id: int, watched: Watched) -> None:
    page = watched.open("/dashboard/jobs")
    page.get_by_label("State").select_option("cancelled")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**state=cancelled**")
    page.reload()
    assert page.get_by_label("State").input_value() == "cancelled"
    expect(page.get_by_role("heading", name="No job is like that")).to_be_visible()


def test_a_job_shows_why_images_failed_and_narrows_by_reason(job_id: int, watched: Watched) -> None:
    page = watched.open(f"/dashboard/jobs/{job_id}")
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    page.get_by_role("link", name="timeout 30").click()
    page.wait_for_url("**code=timeout**")
    page.reload()
    assert page.locator("#job tbody tr").count() == 30
    expect(page.locator("#job tbody td.reason").first).to_contain_text("<script>alert(1)</script> & no answer")
    page.get_by_role("link", name="all 211").click()
    page.get_by_role("link", name="Next page").click()
    expect(page.locator("#job tbody th").first).to_have_text("50")


def test_stores_request_and_image_of_a_job(job_id: int, watched: Watched) -> None:
    page = watched.open(f"/dashboard/jobs/{job_id}/stores")
    assert page.locator("tbody tr").count() == 3
    expect(page.locator("tbody")).to_contain_text("not in the store master")
    watched.expect_accessible()
    page = watched.open(f"/dashboard/jobs/{job_id}/request")
    expect(page.locator("main")).to_contain_text('"order": "</script><b>7"')
    watched.expect_accessible()
    page = watched.open(f"/dashboard/jobs/{job_id}/images/3")
    expect(page.locator(".alert")).to_contain_text("http_404: the server answered 404 Not Found")
    watched.expect_accessible()
    watched.expect_fits_a_phone()


def test_retry_says_what_will_happen_before_it_happens(site: Site, stores: None, watched: Watched) -> None:
    job_id = submit(site, hands.visit(images=20))
    hands.work_off(site.app, mixed)  # type: ignore[arg-type]
    page = watched.open(f"/dashboard/jobs/{job_id}?state=failed&code=http_404")
    page.get_by_role("link", name="Retry the 3 that failed with http_404").click()
    expect(page.locator("main")).to_contain_text("3 images that failed with http_404 are downloaded and read again")
    watched.expect_accessible()
    page.get_by_role("button", name="Try 3 images again").click()
    expect(page.get_by_role("status").first).to_have_text("3 images tried again.")
    page.get_by_role("link", name="Cancel").click()
    expect(page.locator("main")).to_contain_text("3 images that are still open are cancelled")
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator(".head .state")).to_have_text("cancelled")


def test_seven_thousand_failures_are_a_page_of_fifty(site: Site, stores: None, watched: Watched) -> None:
    job_id = submit(site, hands.visit(images=7000))
    hands.work_off(site.app, hands.failed)
    page = watched.open(f"/dashboard/jobs/{job_id}?state=failed")
    expect(page.get_by_role("link", name="http_404 7,000")).to_be_visible()
    assert page.locator("#job tbody tr").count() == 50
    page.get_by_role("link", name="http_404 7,000").click()
    page.get_by_role("link", name="Retry the 7,000 that failed with http_404").click()
    expect(page.get_by_role("button", name="Try 7,000 images again")).to_be_visible()


@pytest.mark.parametrize(
    ("path", "status", "heading"),
    [
        ("/dashboard/jobs/999999", 404, "There is no such page"),
        ("/dashboard/nothing", 404, "There is no such page"),
        ("/dashboard/jobs?state=odd", 400, "That cannot be shown"),
        ("/dashboard/jobs?cursor=x", 400, "That cannot be shown"),
    ],
)
def test_errors_are_pages(path: str, status: int, heading: str, watched: Watched) -> None:
    page = watched.open(path, status)
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)
    watched.expect_accessible()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/dashboard/?start=odd", 400),
        ("/dashboard/?silent=0", 400),
        ("/dashboard/visits?start=2020-09-02&end=2020-09-01", 400),
        ("/dashboard/stores?cursor=x", 400),
        ("/dashboard/stores/NONE", 404),
        ("/dashboard/jobs/1/images/9999999", 404),
        ("/dashboard/jobs/999999/stores", 404),
        ("/dashboard/jobs/999999/request", 404),
        ("/dashboard/jobs/999999/retry", 404),
        ("/dashboard/webhooks?cursor=x", 400),
        ("/dashboard/webhooks/99", 404),
        ("/dashboard/deliveries/99", 404),
        ("/dashboard/keys/99/revoke", 404),
    ],
)
def test_each_page_says_what_is_wrong_with_its_address(path: str, status: int, watched: Watched) -> None:
    page = watched.open(path, status)
    expect(page.locator(".empty .code")).to_have_text(str(status))
    expect(page.get_by_role("link", name="To the start")).to_be_visible()


@pytest.fixture
def photos(tmp_path: Path) -> Iterator[Host]:
    for number in range(4):
        Image.new("RGB", (64, 48), (40 * number, 90, 90)).save(tmp_path / f"good{number}.jpg")
    with Host(tmp_path) as running:
        yield running


def test_a_job_is_watched_from_start_to_end(
    site: Site, stores: None, watched: Watched, photos: Host, tmp_path: Path
) -> None:
    urls = [f"{photos.url}/good{number % 4}.jpg?n={number}" for number in range(300)] + [f"{photos.url}/none.jpg"]
    job_id = submit(site, hands.visit(images=urls))
    page = watched.open(f"/dashboard/jobs/{job_id}")
    expect(page.locator("#percent")).to_have_text("0.0 %")
    page.get_by_role("link", name="all 301").focus()
    with processes.worker(site.env, tmp_path / "worker.log", name="pages"):
        expect(page.locator("#percent")).to_have_text("100.0 %", timeout=60_000)
    expect(page.locator(".head .state")).to_have_text("failed")
    expect(page.get_by_role("link", name="http_404 1")).to_be_visible()
    assert page.locator("[data-done]").count() == 1  # it asks no more
    expect(page.get_by_role("link", name="all 301")).to_be_focused()  # though it was drawn anew meanwhile
