"""Pages in a real browser: Debian's Chromium, a real web process, a database of its own for each module.

What holds for every page is checked after every test: nothing in the console, nothing asked of the outside, no breach
of the page's own policy.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import Browser, Page, expect, sync_playwright

import testbed.browser
from app import broker, create_app, queues
from app.extensions import db
from config import Settings
from testbed import processes
from testbed.processes import Process
from tests.conftest import Backend

LOUD = ("error", "warning")
# On a busy machine five seconds, the default, are too few for a page.
PATIENCE_MILLISECONDS = 20_000
expect.set_options(timeout=PATIENCE_MILLISECONDS)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = testbed.browser.launch(playwright)
        yield launched
        launched.close()


@dataclasses.dataclass
class Site:
    """A running service, and the app to fill its database with."""

    url: str
    app: Flask
    env: dict[str, str]
    folder: Path
    web: Process


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, embedded: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Settings beyond the usual may stand in the module, as SETTINGS."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(embedded.data_dir / "empty.db", folder / "site.db")
    env = {
        "DATABASE_URL": f"sqlite:///{folder}/site.db",
        "REDIS_URL": broker.celery_url("", embedded.data_dir),
        "DATA_DIR": str(folder),
        "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
        "GPU_PAUSE_MIN_SECONDS": "0.02",
        "GPU_PAUSE_MAX_SECONDS": "0.05",
        "RETRY_BASE_SECONDS": "0.1",
    } | getattr(request.module, "SETTINGS", {})
    port = processes.free_port()
    queues._connection.cache_clear()
    app = create_app(Settings.from_env(env))
    with processes.web(env, folder / "web.log", port=port) as web:
        yield Site(f"http://127.0.0.1:{port}", app, env, folder, web)
    with app.app_context():
        db.engine.dispose()


class Watched:
    """A page of the browser, opened by paths of the site; what it must not do is noted as it happens."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page = page
        self._site = site
        self.troubles: list[str] = []
        # The browser itself notes in the console that an answer was an error.
        self.expected_status: set[int] = set()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.troubles.append(f"script: {error}"))
        page.on("request", self._asked)
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', (breach) =>"
            " console.error(`policy: ${breach.violatedDirective} ${breach.blockedURI}`));"
        )

    def open(self, path: str, status: int = 200) -> Page:
        if status != 200:
            self.expected_status.add(status)
        answer = self.page.goto(self._site.url + path)
        assert answer is not None and answer.status == status, path
        return self.page

    def _heard(self, message: object) -> None:
        text = message.text  # type: ignore[attr-defined]
        is_expected = any(f"status of {status} " in text for status in self.expected_status)
        if message.type in LOUD and not is_expected:  # type: ignore[attr-defined]
            self.troubles.append(text)

    def _asked(self, request: object) -> None:
        address = urlsplit(request.url)  # type: ignore[attr-defined]
        if address.scheme not in ("data", "blob") and f"{address.scheme}://{address.netloc}" != self._site.url:
            self.troubles.append(f"outside: {request.url}")  # type: ignore[attr-defined]

    def expect_accessible(self) -> None:
        """No finding of axe-core that it calls serious or critical, in light and in dark."""
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            # What differs in the dark are the colours.
            only = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
            found = Axe().run(self.page, options={"resultTypes": ["violations"]} | only).response["violations"]
            grave = [
                (each["id"], [node["html"][:120] for node in each["nodes"][:3]])
                for each in found
                if each["impact"] in ("serious", "critical")
            ]
            assert grave == [], scheme
        self.page.emulate_media(color_scheme="light")

    def expect_fits_a_phone(self) -> None:
        self.page.set_viewport_size({"width": 360, "height": 700})
        wide = self.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"{wide} pixels wide"
        self.page.set_viewport_size({"width": 1280, "height": 800})


@pytest.fixture
def watched(browser: Browser, site: Site) -> Iterator[Watched]:
    # Reduced motion: colours must not be read while they still fade from light to dark.
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme="light", reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    found = Watched(context.new_page(), site)
    yield found
    context.close()
    assert found.troubles == []
