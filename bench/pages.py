"""``python -m bench.pages``: how long the pages take with a thousand and with a million visits on MariaDB.

Prints the table that docs/dashboard.md has. The answers are made in this process (no network, no browser).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from flask import Flask
from flask_migrate import upgrade

from app import create_app
from app.domain import stores, visit_sums
from app.domain.visit_groups import Group
from bench import bulk
from bench.servers import DATABASE
from config import Settings
from testbed.mariadb import MariaDB

STORES_FILE = Path(__file__).resolve().parents[1] / "data" / "stores_sample.csv"
VISITS = 1_000_000
ASKED = 15
FEW_VISITS = 1_000
FIRST_JOB = 1_000
YEAR = "start=2024-01-01&end=2024-12-31"
BARE = "a page that asks nothing of the database"
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
        url = mariadb.create_database(DATABASE)
        app = create_app(Settings.from_env({}, DATABASE_URL=url, DATA_DIR=folder, LOG_LEVEL="ERROR"))
        with app.app_context():
            upgrade()
            with STORES_FILE.open("rb") as file:
                stores.load(file)
        bulk.prepare(mariadb)
        few = _fill_and_ask(app, mariadb, visits=FEW_VISITS, first_job=FIRST_JOB)
        many = _fill_and_ask(app, mariadb, visits=most, first_job=FIRST_JOB + 1)
    print(f"| page | with {FEW_VISITS:,} visits, ms | with {most:,}, ms | times the first |")
    print("|---|---|---|---|")
    for name in PAGES:
        print(f"| {name} | {few[name]:.1f} | {many[name]:.1f} | {many[name] / many[BARE]:.1f} |")
    return 0


def _fill_and_ask(app: Flask, mariadb: MariaDB, *, visits: int, first_job: int) -> dict[str, float]:
    """The median of each page in milliseconds."""
    for filled in bulk.fill(mariadb, visits=visits, first_job=first_job, with_images=False):
        if filled % 200_000 == 0:
            print(f"{filled:,} visits", file=sys.stderr)
    with app.app_context():
        while visit_sums.fold():
            pass
    mariadb.execute("ANALYZE TABLE visit_sums", database=DATABASE)
    return {name: 1000 * statistics.median(_ask(app, path)) for name, path in PAGES.items()}


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
