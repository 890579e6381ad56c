"""``python -m bench.pages``: how long the pages take with a thousand and with a million visits on MariaDB.

Prints the table that docs/dashboard.md has: the answer alone, made in this process, then the first paint in a browser
that has the styles and scripts cached, and how many times that of a bare page of the same server.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from http import HTTPStatus
from pathlib import Path

from flask import Flask
from flask_migrate import upgrade
from playwright.sync_api import Page, sync_playwright

import testbed.browser
from app import create_app
from app.domain import stores, visit_sums
from app.domain.visit_groups import Group
from bench import bulk
from bench.servers import DATABASE, BenchError
from config import Settings
from testbed import processes
from testbed.mariadb import MariaDB

STORES_FILE = Path(__file__).resolve().parents[1] / "data" / "stores_sample.csv"
VISITS = 1_000_000
ASKED = 15
FEW_VISITS = 1_000
FIRST_JOB = 1_000
YEAR = "start=2024-01-01&end=2024-12-31"
BARE = "a bare page: the frame that all have, nothing asked of the database"
FIRST_PAINT = """() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"""
PAGES = {
    BARE: "/dashboard/stores/load",
    "overview": "/dashboard/",
    "... its charts, 7 days": "/dashboard/period",
    "... its charts, the whole year": f"/dashboard/period?{YEAR}",
    "visits, the last 7 days": "/dashboard/visits",
    "visits of the whole year": f"/dashboard/visits?{YEAR}",
    "... of an area": f"/dashboard/visits?{YEAR}&area=710006",
    "... that failed (none)": f"/dashboard/visits?{YEAR}&state=failed",
    "... by perimeter, a month": "/dashboard/visits?start=2024-05-01&end=2024-05-31&sort=largest",
    "... by day, 7 days": "/dashboard/visits?group=day",
    **{f"... by {group}, the whole year": f"/dashboard/visits?{YEAR}&group={group}" for group in Group},
    "... by store, from 2 January to 30 December": ("/dashboard/visits?start=2024-01-02&end=2024-12-30&group=store"),
    "... by day, of an area, the whole year": f"/dashboard/visits?{YEAR}&area=710006&group=day",
    "stores": "/dashboard/stores",
    "a store": "/dashboard/stores/S00339218",
    "jobs": "/dashboard/jobs",
    "a job": "/dashboard/jobs/1000",
    "control room": "/dashboard/control",
}


def main() -> int:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else VISITS
    with MariaDB() as mariadb, tempfile.TemporaryDirectory() as folder:
        env = {"DATABASE_URL": mariadb.create_database(DATABASE), "DATA_DIR": folder, "LOG_LEVEL": "ERROR"}
        app = create_app(Settings.from_env({}, **env))
        with app.app_context():
            upgrade()
            with STORES_FILE.open("rb") as file:
                stores.load(file)
        bulk.prepare(mariadb)
        _fill(app, mariadb, visits=FEW_VISITS, first_job=FIRST_JOB)
        few = _answers(app)
        _fill(app, mariadb, visits=most, first_job=FIRST_JOB + 1)
        many = _answers(app)
        paints = _paints(env, Path(folder))
    heads = (
        "page",
        f"answer with {FEW_VISITS:,} visits, ms",
        f"{most:,}, ms",
        "first paint, ms",
        "times a bare page's",
    )
    print(f"| {' | '.join(heads)} |")
    print("|---|---|---|---|---|")
    for name in PAGES:
        times = f"{paints[name] / paints[BARE]:.1f}"
        print(f"| {name} | {few[name]:.0f} | {many[name]:.0f} | {paints[name]:.0f} | {times} |")
    return 0


def _fill(app: Flask, mariadb: MariaDB, *, visits: int, first_job: int) -> None:
    for filled in bulk.fill(mariadb, visits=visits, first_job=first_job, with_images=False):
        if filled % 200_000 == 0:
            print(f"{filled:,} visits", file=sys.stderr)
    with app.app_context():
        while visit_sums.fold():
            pass
    mariadb.execute("ANALYZE TABLE visit_sums", database=DATABASE)


def _answers(app: Flask) -> dict[str, float]:
    """The median of each page in milliseconds, without network and browser."""
    return {name: 1000 * statistics.median(_ask(app, path)) for name, path in PAGES.items()}


def _ask(app: Flask, path: str) -> list[float]:
    client = app.test_client()
    times = []
    for _ in range(ASKED):
        started = time.perf_counter()
        answer = client.get(path)
        if answer.status_code != HTTPStatus.OK:
            raise BenchError(f"{path} was answered {answer.status_code}: {answer.text[:500]}")
        times.append(time.perf_counter() - started)
    return times[1:]


def _paints(env: dict[str, str], folder: Path) -> dict[str, float]:
    """The median time from a click to the first contentful paint (W3C Paint Timing) of each page, in milliseconds."""
    port = processes.free_port()
    with processes.web(env, folder / "web.log", port=port), sync_playwright() as playwright:
        page = testbed.browser.launch(playwright).new_page()
        return {name: _first_paint(page, f"http://127.0.0.1:{port}{path}") for name, path in PAGES.items()}


def _first_paint(page: Page, url: str) -> float:
    times = []
    for _ in range(ASKED):
        answer = page.goto(url)
        if answer is None or not answer.ok:
            raise BenchError(f"{url} was answered {answer.status if answer else 'nothing'}")
        page.wait_for_function(FIRST_PAINT)
        times.append(float(page.evaluate(FIRST_PAINT)))
    return statistics.median(times[1:])


if __name__ == "__main__":
    sys.exit(main())
