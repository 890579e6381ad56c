"""``python -m bench.pages``: how long the pages take with a million visits on MariaDB, beside a page that asks nothing.

Prints the table that docs/dashboard.md has. The answers are made in this process (no network, no browser).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from flask import Flask
from flask_migrate import upgrade

from app import create_app
from app.domain import stores
from bench import bulk
from bench.servers import DATABASE
from config import Settings
from testbed.mariadb import MariaDB

STORES_FILE = Path(__file__).resolve().parents[1] / "data" / "stores_sample.csv"
VISITS = 1_000_000
ASKED = 15
BARE = "a page that asks nothing of the database"
YEAR = "start=2024-01-01&end=2024-12-31"
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
    "... by store, the whole year": f"/dashboard/visits?{YEAR}&group=store",
    "stores": "/dashboard/stores",
    "a store": "/dashboard/stores/S00339218",
    "jobs": "/dashboard/jobs",
    "a job": "/dashboard/jobs/1000",
    "control room": "/dashboard/control",
}


def main() -> int:
    visits = int(sys.argv[1]) if len(sys.argv) > 1 else VISITS
    with MariaDB() as mariadb, tempfile.TemporaryDirectory() as folder:
        url = mariadb.create_database(DATABASE)
        app = create_app(Settings.from_env({}, DATABASE_URL=url, DATA_DIR=folder, LOG_LEVEL="ERROR"))
        with app.app_context():
            upgrade()
            with STORES_FILE.open("rb") as file:
                stores.load(file)
        bulk.prepare(mariadb)
        for filled in bulk.fill(mariadb, visits=visits, first_job=1_000, with_images=False):
            if filled % 200_000 == 0:
                print(f"{filled:,} visits", file=sys.stderr)
        for line in _table(app):
            print(line)
    return 0


def _table(app: Flask) -> Iterator[str]:
    yield "| page | milliseconds | times the first |"
    yield "|---|---|---|"
    bare = None
    for name, path in PAGES.items():
        median = 1000 * statistics.median(_ask(app, path))
        bare = bare or median
        yield f"| {name} | {median:.0f} | {median / bare:.1f} |"


def _ask(app: Flask, path: str) -> list[float]:
    client = app.test_client()
    times = []
    for _ in range(ASKED):
        started = time.perf_counter()
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.text)
        times.append(time.perf_counter() - started)
    return times[1:]


if __name__ == "__main__":
    sys.exit(main())
