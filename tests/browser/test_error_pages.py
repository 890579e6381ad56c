"""What people see when the service itself fails: a table that is gone, a database that is away and comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask_migrate import upgrade
from playwright.sync_api import expect

from app import broker, create_app, queues
from app.domain import keys
from app.domain.access import Scope
from app.domain.keys import NewKey
from app.extensions import db
from config import Settings
from testbed import processes
from testbed.mariadb import MariaDB
from tests.browser.conftest import Site, Watched
from tests.conftest import Backend
from tests.integration import hands

DATABASE = "errors"


@pytest.fixture(scope="module")
def own() -> Iterator[MariaDB]:
    """A database server that no other test needs."""
    with MariaDB() as server:
        yield server


@pytest.fixture(scope="module")
def site(own: MariaDB, embedded: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    env = {
        "DATABASE_URL": own.create_database(DATABASE),
        "REDIS_URL": broker.celery_url("", embedded.data_dir),
        "DATA_DIR": str(folder),
        "AUTH": "keys",
    }
    queues._connection.cache_clear()
    app = create_app(Settings.from_env(env))
    with app.app_context():
        upgrade()
    hands.add_stores(app)
    port = processes.free_port()
    with processes.web(env, folder / "web.log", port=port) as web:
        yield Site(f"http://127.0.0.1:{port}", app, env, folder, web)
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(autouse=True)
def logged_in(site: Site, watched: Watched) -> None:
    with site.app.app_context():
        key = keys.create(NewKey("boss", frozenset({Scope.ADMIN}))).text or ""
    page = watched.open("/dashboard/stores")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Stores")


def test_a_fault_of_ours_is_a_page_that_tells_nothing_of_the_inside(site: Site, own: MariaDB, watched: Watched) -> None:
    own.execute("RENAME TABLE stores TO elsewhere", database=DATABASE)
    try:
        page = watched.open("/dashboard/stores", 500)
    finally:
        own.execute("RENAME TABLE elsewhere TO stores", database=DATABASE)
    expect(page.get_by_role("heading", level=1)).to_have_text("Something went wrong here")
    expect(page.get_by_role("link", name="To the start")).to_be_visible()
    assert "stores' doesn't exist" not in page.content() and "Traceback" not in page.content()
    watched.expect_accessible()
    watched.expect_fits_a_phone()


def test_a_database_that_is_away_is_said_and_the_page_goes_on_when_it_is_back(own: MariaDB, watched: Watched) -> None:
    page = watched.open("/dashboard/jobs")
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    other = page.context.new_page()
    address = page.url
    own.stop()
    try:
        watched.expected_status |= {503}
        # A page that is open says so and keeps what it shows; one that is opened now is a page all the same.
        expect(page.locator("#live-state")).to_contain_text("The service does not answer", timeout=60_000)
        expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
        answer = other.goto(address, timeout=60_000)
        assert answer is not None and answer.status == 503 and answer.headers["retry-after"]
        expect(other.get_by_role("heading", level=1)).to_have_text("The service cannot answer just now")
        expect(other.get_by_role("navigation", name="Pages")).to_be_attached()
    finally:
        own.start()
    other.get_by_role("link", name="Try again").click()
    expect(other.get_by_role("heading", name="No jobs yet")).to_be_visible(timeout=60_000)
    expect(page.locator("#live-state")).to_be_empty(timeout=60_000)
    other.close()
