"""Fills the tables with visits and images that are done, inside the server: a million visits in minutes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from bench.servers import DATABASE
from testbed.mariadb import MariaDB

VISITS_A_JOB = 1_000
IMAGES_A_VISIT = 10
IMAGES_A_JOB = VISITS_A_JOB * IMAGES_A_VISIT
# Visits lie evenly over this year, whatever their number.
FIRST_DAY, SECONDS = datetime(2024, 1, 1), 365 * 86_400

_DIGITS = " UNION ALL ".join(f"SELECT {digit} AS n" for digit in range(10))
NUMBERS = f"""
CREATE TABLE bench_numbers AS
SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n AS n
FROM ({_DIGITS}) a CROSS JOIN ({_DIGITS}) b CROSS JOIN ({_DIGITS}) c CROSS JOIN ({_DIGITS}) d ORDER BY n
"""
STORES = """
CREATE TABLE bench_stores AS SELECT ROW_NUMBER() OVER (ORDER BY id) - 1 AS n, id FROM stores
"""
JOB = """
INSERT INTO jobs (id, submission, source, state, priority, turn, keep_images, visits_total, images_total, images_open,
                  images_done, images_failed, images_cancelled, created_at, started_at, finished_at)
VALUES ({job}, 'bulk {job}', 'urls', 'completed', 5, 0, 0, {visits}, {images}, 0, {images}, 0, 0,
        '{at}', '{at}', '{at}')
"""
# Neighbouring visits are of different stores, and a store's visits lie all over the year.
VISITS = """
INSERT INTO visits (job_id, seq, store_id, visited_at, visited_as_sent, state, images_total, images_open, images_failed,
                    images_cancelled, perimeter, seconds, settled_at, version)
SELECT {job}, numbers.n, stores.id, '{first_day}' + INTERVAL (({first_visit} + numbers.n) * {step}) SECOND,
       '2024-01-01T00:00:00Z', 'completed', {a_visit}, 0, 0, 0, {a_visit} * 4480, {a_visit} * 0.25, '{at}', 1
FROM bench_numbers numbers JOIN bench_stores stores ON stores.n = ({first_visit} + numbers.n) % {stores}
WHERE numbers.n < {visits}
"""
CHANGES = """
INSERT INTO visit_changes (day, store_id, state, error_code, owner_id, visits, images, images_failed, perimeter)
SELECT DATE(visited_at), store_id, state, '', 0, 1, images_total, images_failed, perimeter
FROM visits WHERE job_id = {job}
"""
IMAGES = """
INSERT INTO images (job_id, seq, visit_seq, url, state, width, height, perimeter, format, bytes, seconds, attempts,
                    settled_at)
SELECT {job}, numbers.n, FLOOR(numbers.n / {a_visit}),
       CONCAT('https://images.example/photos/{job}/', numbers.n, '.jpg'), 'done', 1280, 960, 4480, 'JPEG', 202000,
       0.25, 1, '{at}'
FROM bench_numbers numbers WHERE numbers.n < {images}
"""


def prepare(mariadb: MariaDB) -> None:
    """Empty the tables of jobs, and make those that numbers and stores are taken from."""
    for table in ("jobs", "visits", "chunks", "images", "visit_sums", "visit_changes"):
        mariadb.execute(f"TRUNCATE TABLE {table}", database=DATABASE)
    for name, statement in (("bench_numbers", NUMBERS), ("bench_stores", STORES)):
        mariadb.execute(f"DROP TABLE IF EXISTS {name}", database=DATABASE)
        mariadb.execute(statement, database=DATABASE)


def fill(mariadb: MariaDB, *, visits: int, first_job: int, with_images: bool = True) -> Iterator[int]:
    """Add completed jobs of ``VISITS_A_JOB`` visits, numbered from ``first_job``; yields the visits so far."""
    [(stores,)] = mariadb.execute("SELECT COUNT(*) FROM bench_stores", database=DATABASE)
    for first_visit in range(0, visits, VISITS_A_JOB):
        job = first_job + first_visit // VISITS_A_JOB
        values = {
            "job": job,
            "visits": VISITS_A_JOB,
            "images": IMAGES_A_JOB,
            "a_visit": IMAGES_A_VISIT,
            "stores": stores,
            "first_day": FIRST_DAY,
            "first_visit": first_visit,
            "step": SECONDS / visits,
            "at": FIRST_DAY + timedelta(seconds=SECONDS),
        }
        for statement in (JOB, VISITS, CHANGES, IMAGES) if with_images else (JOB, VISITS, CHANGES):
            mariadb.execute(statement.format(**values), database=DATABASE)
        yield first_visit + VISITS_A_JOB
    for table in ("jobs", "visits", "images"):
        mariadb.execute(f"ANALYZE TABLE {table}", database=DATABASE)


def fill_job(mariadb: MariaDB, *, job: int, images: int) -> None:
    """One ongoing job of so many images, a tenth of them done: what a status is asked for. At most 100 x 10,000."""
    values = {"job": job, "images": images}
    mariadb.execute(ONGOING.format(**values), database=DATABASE)
    for first in range(0, images, 10_000):
        mariadb.execute(
            ONGOING_IMAGES.format(**values, first=first, last=min(first + 10_000, images)), database=DATABASE
        )


ONGOING = """
INSERT INTO jobs (id, submission, source, state, priority, turn, keep_images, visits_total, images_total, images_open,
                  images_done, images_failed, images_cancelled, created_at, started_at)
VALUES ({job}, 'bulk {job}', 'urls', 'ongoing', 5, 0, 0, 1, {images}, {images}, 0, 0, 0,
        UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))
"""
ONGOING_IMAGES = """
INSERT INTO images (job_id, seq, visit_seq, url, state, attempts)
SELECT {job}, {first} + numbers.n, 0, CONCAT('https://images.example/photos/{job}/', numbers.n, '.jpg'), 'open', 0
FROM bench_numbers numbers WHERE {first} + numbers.n < {last}
"""
