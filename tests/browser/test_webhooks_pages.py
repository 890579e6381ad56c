"""Webhooks and keys: made, shown once, tried, disabled, taken away, by somebody who is logged in."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from app.domain import keys
from app.domain.access import Scope
from app.domain.keys import NewKey
from testbed.receiver import Receiver
from tests.browser.conftest import Site, Watched
from tests.integration import hands, receivers

SETTINGS = {"AUTH": "keys"}


@pytest.fixture(scope="module")
def admin(site: Site) -> str:
    hands.add_stores(site.app)
    with site.app.app_context():
        return keys.create(NewKey("boss", frozenset({Scope.ADMIN}))).text or ""


@pytest.fixture(scope="module")
def ear() -> Iterator[Receiver]:
    with Receiver() as heard:
        yield heard


def log_in(watched: Watched, key: str, path: str) -> Page:
    page = watched.open(path)
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"**{path}")
    return page


def test_a_webhook_is_made_tried_and_sent_again(site: Site, admin: str, ear: Receiver, watched: Watched) -> None:
    page = log_in(watched, admin, "/dashboard/webhooks")
    expect(page.get_by_role("heading", name="Nobody is told of anything yet")).to_be_visible()
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    watched.expected_status.add(400)
    page.get_by_label("Address that takes a POST").fill("https://169.254.169.254/")
    page.get_by_role("button", name="Make the webhook").click()
    expect(page.get_by_role("alert")).to_contain_text("Url:")
    page.get_by_label("Address that takes a POST").fill(ear.url("/hook"))
    page.get_by_role("button", name="Make the webhook").click()
    expect(page.locator("#secret")).to_have_text(re.compile(r"whsec_.+"))
    secret = page.locator("#secret").inner_text()
    page.reload()  # sends the form again
    expect(page.locator("#secret")).to_have_text(secret)
    page.get_by_role("link", name="To the webhook").click()
    expect(page.get_by_text("Nothing has happened yet")).to_be_visible()
    assert secret not in page.content()
    ear.script = ["/status?code=500"]
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_role("heading", name="Attempts")).to_be_visible()
    with receivers.sending(site.app):
        expect(page.locator("td.reason")).to_contain_text("500")
        receivers.make_due(site.app)
        expect(page.locator(".head .state")).to_have_text("delivered")
        watched.expect_accessible()
        page.get_by_role("button", name="Send it again").click()
        expect(page.locator("tbody tr")).to_have_count(3)
    assert all(receivers.is_signed(message, secret) for message in ear.messages)
    page.get_by_role("link", name="webhook 1").click()
    page.get_by_role("link", name="failed").click()
    expect(page.get_by_text("None is like that.")).to_be_visible()
    page.get_by_role("link", name="all", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(1)
    watched.expect_accessible()
    watched.expect_fits_a_phone()


def test_a_webhook_is_disabled_and_removed_once_asked(site: Site, admin: str, ear: Receiver, watched: Watched) -> None:
    with site.app.test_request_context():
        client = site.app.test_client()
        sent = {"url": ear.url("/hook")}
        webhook_id = client.post("/api/webhooks", json=sent, headers={"X-API-Key": admin}).json["webhook_id"]
    page = log_in(watched, admin, f"/dashboard/webhooks/{webhook_id}")
    page.get_by_role("button", name="Disable").click()
    expect(page.locator(".head .state")).to_have_text("disabled")
    page.get_by_role("button", name="Enable").click()
    page.get_by_role("button", name="New secret").click()
    expect(page.get_by_text("signed with the one before as well")).to_be_visible()
    page.get_by_role("link", name="To the webhook").click()
    page.get_by_role("link", name="Remove").click()
    page.get_by_role("link", name="Keep it").click()
    page.get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove it").click()
    page.wait_for_url("**/dashboard/webhooks")
    watched.open(f"/dashboard/webhooks/{webhook_id}", 404)


def test_a_key_is_made_shown_once_and_revoked(site: Site, admin: str, watched: Watched) -> None:
    page = log_in(watched, admin, "/dashboard/keys")
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    watched.expected_status |= {400, 401}
    page.get_by_label("Days that it holds").fill("many")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("alert")).to_contain_text("Days: not a whole number")
    page.get_by_label("Days that it holds").fill("30")
    page.get_by_label("For whom").fill("till <b>system</b>")
    page.get_by_label("see jobs").check()
    page.get_by_role("button", name="Make the key").click()
    made = page.locator("#key").inner_text()
    watched.expect_accessible()
    page.reload()
    expect(page.get_by_text("shown, by the first click")).to_be_visible()
    page.get_by_role("link", name="To the keys").click()
    expect(page.locator("tbody tr").first).to_contain_text("till <b>system</b>")
    assert made not in page.content()
    client = site.app.test_client()
    assert client.get("/api/jobs", headers={"X-API-Key": made}).status_code == 200
    assert client.get("/dashboard/keys", headers={"X-API-Key": made}).status_code == 403
    page.get_by_role("link", name=f"Revoke {made[:11]}").click()
    page.get_by_role("button", name="Revoke it").click()
    expect(page.locator("tbody tr").first).to_contain_text("revoked")


def test_forms_of_other_sites_change_nothing(site: Site, admin: str) -> None:
    client = site.app.test_client()
    headers = {"X-API-Key": admin, "Origin": "https://evil.example"}
    for path in ("/dashboard/keys", "/dashboard/webhooks", "/dashboard/webhooks/1/remove", "/dashboard/keys/1/revoke"):
        assert client.post(path, headers=headers).status_code == 403, path
        assert client.post(path, headers={"X-API-Key": admin}).status_code == 403, path
