"""``python -m bench.claims``: what a claim costs with ten, a thousand and ten thousand open jobs, due and waiting.

Every job has four chunks of ten images; twenty owners. Claims of one chunk by one worker, on MariaDB: index entries and
rows that the server read for one, which no other program on the machine can change, and milliseconds, which they can.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from flask_migrate import upgrade
from sqlalchemy.orm import Session

from app import create_app
from app.domain import claims, transactions
from app.domain.works import Room
from bench.servers import DATABASE
from config import Settings
from testbed.mariadb import MariaDB

OPEN_JOBS = (10, 1_000, 10_000)
OWNERS, CLAIMS = 20, 35
TABLES = ("jobs", "chunks", "images", "shares")
# A worker that holds a chunk of each waiting job, and a job that is claimed from meanwhile.
JOBS = """
INSERT INTO jobs (submission, source, owner_id, state, priority, turn, parked_until, keep_images, visits_total,
                  images_total, images_open, images_done, images_failed, images_cancelled, created_at)
SELECT CONCAT('{state} ', seq), 'urls', 1 + seq % {owners}, 'ongoing', 5, 0, {parked}, 0, 0, 40, 40, 0, 0, 0,
       UTC_TIMESTAMP(6)
FROM seq_1_to_{jobs}
"""
CHUNKS = """
INSERT INTO chunks (job_id, seq, first_image, images, due_at, claim, unreturned)
SELECT jobs.id, seqs.seq, 10 * seqs.seq, 10, UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND, 0, 0
FROM jobs JOIN seq_0_to_3 seqs WHERE jobs.submission LIKE '{state} %'
"""
IMAGES = """
INSERT INTO images (job_id, seq, url, state, attempts)
SELECT jobs.id, seqs.seq, 'https://images.example/1.jpg', 'open', 0
FROM jobs JOIN seq_0_to_39 seqs WHERE jobs.submission LIKE '{state} %'
"""
LATER = "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR"


def main() -> int:
    print("| open jobs | all due: reads | ms | all but ten waiting: reads | ms |\n|---|---|---|---|---|")
    with MariaDB() as mariadb, tempfile.TemporaryDirectory() as folder:
        url = mariadb.create_database(DATABASE)
        app = create_app(Settings.from_env({}, DATABASE_URL=url, DATA_DIR=Path(folder), LOG_LEVEL="ERROR"))
        with app.app_context():
            upgrade()
            for jobs in OPEN_JOBS:
                _fill(mariadb, due=jobs, waiting=0)
                all_due = _measure()
                _fill(mariadb, due=10, waiting=max(0, jobs - 10))
                print(f"| {jobs:,} | {all_due} | {_measure()} |", flush=True)
    return 0


def _fill(mariadb: MariaDB, *, due: int, waiting: int) -> None:
    for table in TABLES:
        mariadb.execute(f"TRUNCATE TABLE {table}", database=DATABASE)
    for state, jobs, parked, seconds in (("due", due, "NULL", 0), ("waiting", waiting, LATER, 3600)):
        if jobs:
            for statement in (JOBS, CHUNKS, IMAGES):
                values = {"state": state, "jobs": jobs, "parked": parked, "seconds": seconds, "owners": OWNERS}
                mariadb.execute(statement.format(**values), database=DATABASE)
    for table in TABLES:
        mariadb.execute(f"ANALYZE TABLE {table}", database=DATABASE)


def _measure() -> str:
    """Reads and milliseconds: medians of some claims, after one of each owner."""
    reads, times = [], []
    for _ in range(CLAIMS):
        before, started = transactions.read(_reads), time.perf_counter()
        if not claims.claim("bench", Room(1, 1), lease_seconds=60):
            raise RuntimeError("nothing was claimed, and something was due")
        times.append(1000 * (time.perf_counter() - started))
        reads.append(transactions.read(_reads) - before)
    return f"{statistics.median(reads[OWNERS:]):.0f} | {statistics.median(times[OWNERS:]):.1f}"


def _reads(session: Session) -> int:
    """What the server has read for this connection, the only one that there is."""
    rows = session.connection().exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'")
    return sum(int(value) for _, value in rows)


if __name__ == "__main__":
    sys.exit(main())
