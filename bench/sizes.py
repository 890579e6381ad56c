"""``python -m bench.sizes [VISITS]``: bytes a row of each table and index on MariaDB, and how long loading took.

Ten images a visit, each done: what jobs by URL leave behind. Prints the tables that docs/scaling.md has.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask_migrate import upgrade

from app import create_app
from app.domain import stores
from bench import bulk
from bench.servers import DATABASE
from config import Settings
from testbed.mariadb import MariaDB
from testbed.processes import PROJECT

VISITS = 20_000
TABLES = ("images", "visits", "chunks", "jobs")
PAGE_BYTES = 16_384
# As many as a job of 10,000 images has, done with.
CHUNKS = """
INSERT INTO chunks (job_id, seq, first_image, images, due_at, claim, claimed_by, claimed_at)
SELECT jobs.id, seqs.seq, seqs.seq * 100, 100, NULL, 1, 'host-name-1:12345', UTC_TIMESTAMP(6)
FROM jobs JOIN seq_0_to_99 seqs
"""
INDEXES = """
SELECT index_name, stat_value FROM mysql.innodb_index_stats
WHERE database_name = '{database}' AND table_name = '{table}' AND stat_name = 'size' ORDER BY index_name
"""


def main() -> int:
    visits = int(sys.argv[1]) if len(sys.argv) > 1 else VISITS
    with MariaDB() as mariadb, tempfile.TemporaryDirectory() as folder:
        _prepare(mariadb, Path(folder))
        started = time.monotonic()
        for filled in bulk.fill(mariadb, visits=visits, first_job=1):
            if filled % 50_000 == 0:
                print(f"{filled:,} visits", file=sys.stderr)
        seconds = time.monotonic() - started
        mariadb.execute(CHUNKS, database=DATABASE)
        for table in TABLES:
            mariadb.execute(f"ANALYZE TABLE {table}", database=DATABASE)
        print("| table | rows | index | bytes a row |\n|---|---|---|---|")
        for row in _sizes(mariadb):
            print(f"| {' | '.join(row)} |")
    print(f"\n{visits:,} visits of {bulk.IMAGES_A_VISIT} images: {seconds:,.0f} s")
    return 0


def _prepare(mariadb: MariaDB, folder: Path) -> None:
    url = mariadb.create_database(DATABASE)
    app = create_app(Settings.from_env({}, DATABASE_URL=url, DATA_DIR=folder, LOG_LEVEL="ERROR"))
    with app.app_context():
        upgrade()
        with (PROJECT / "data" / "stores_sample.csv").open("rb") as file:
            stores.load(file)
    bulk.prepare(mariadb)


def _sizes(mariadb: MariaDB) -> Iterator[tuple[str, ...]]:
    for table in TABLES:
        [(rows,)] = _ask(mariadb, f"SELECT COUNT(*) FROM {table}")
        sizes = dict(_ask(mariadb, INDEXES.format(database=DATABASE, table=table)))
        for index, pages in sizes.items():
            yield table, f"{rows:,}", f"`{index}`", f"{int(pages) * PAGE_BYTES / rows:,.0f}"
        yield table, "", "all", f"{sum(map(int, sizes.values())) * PAGE_BYTES / rows:,.0f}"


def _ask(mariadb: MariaDB, query: str) -> list[tuple[Any, ...]]:
    return mariadb.execute(query, database=DATABASE)


if __name__ == "__main__":
    sys.exit(main())
