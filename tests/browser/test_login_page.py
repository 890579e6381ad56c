"""AUTH=keys: pages ask for a key, and show what it may."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from app.domain import keys
from app.domain.access import Scope
from app.domain.keys import NewKey
from tests.browser.conftest import Site, Watched
from tests.integration import hands

SETTINGS = {"AUTH": "keys"}


def make_key(site: Site, *scopes: Scope, label: str, same_owner_as: str | None = None) -> str:
    with site.app.app_context():
        return keys.create(NewKey(label, frozenset(scopes), same_owner_as)).text or ""


@pytest.fixture(scope="module")
def writer(site: Site) -> str:
    hands.add_stores(site.app)
    return make_key(site, Scope.SUBMIT, Scope.READ, label="north")


def log_in(watched: Watched, key: str) -> None:
    watched.page.get_by_label("API key").fill(key)
    watched.page.get_by_role("button", name="Log in").click()


def test_a_page_asks_for_a_key_and_then_shows_what_was_asked_for(site: Site, writer: str, watched: Watched) -> None:
    sent = site.app.test_client().post("/api/submit/", json=hands.body(), headers={"X-API-Key": writer})
    page = watched.open(f"/dashboard/jobs/{sent.json['job_id']}?state=open")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    watched.expected_status.add(401)
    log_in(watched, "ij_wrong_key")
    expect(page.get_by_role("alert")).to_be_visible()
    log_in(watched, writer)
    page.wait_for_url(f"**/dashboard/jobs/{sent.json['job_id']}?state=open")
    expect(page.locator(".who")).to_have_text("north")
    assert page.get_by_role("link", name="Control room").count() == 0
    page.get_by_role("link", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator(".head .state")).to_have_text("cancelled")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    page = watched.open("/dashboard/jobs")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_a_key_that_may_only_read_finds_no_buttons(site: Site, writer: str, watched: Watched) -> None:
    sent = site.app.test_client().post("/api/submit/", json=hands.body(), headers={"X-API-Key": writer})
    reader = make_key(site, Scope.READ, label="viewer", same_owner_as="_".join(writer.split("_")[:2]))
    page = watched.open(f"/dashboard/jobs/{sent.json['job_id']}")
    log_in(watched, reader)
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Job {sent.json['job_id']}")
    assert page.get_by_role("link", name="Cancel").count() == 0
    watched.open(f"/dashboard/jobs/{sent.json['job_id']}/cancel", 403)
    expect(page.get_by_role("heading", level=1)).to_have_text("Not allowed")


def test_a_job_of_somebody_else_is_not_there(site: Site, writer: str, watched: Watched) -> None:
    sent = site.app.test_client().post("/api/submit/", json=hands.body(), headers={"X-API-Key": writer})
    stranger = make_key(site, Scope.SUBMIT, Scope.READ, label="south")
    page = watched.open("/dashboard/jobs")
    log_in(watched, stranger)
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    watched.open(f"/dashboard/jobs/{sent.json['job_id']}", 404)
