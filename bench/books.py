"""The books of a job that is done: what its counters say, its visits sum up to and its images hold must agree."""

from __future__ import annotations

from typing import Any

from bench.servers import DATABASE, BenchError
from testbed.mariadb import MariaDB

# Each row is named, so that a disagreement says where it is.
QUERIES = {
    "job": "SELECT state, images_total, images_open, images_done, images_failed, images_cancelled FROM jobs "
    "WHERE id = {}",
    "images": "SELECT state, COUNT(*), SUM(perimeter) FROM images WHERE job_id = {} GROUP BY state",
    "visits": "SELECT state, SUM(images_total), SUM(images_open), SUM(images_failed), SUM(perimeter) FROM visits "
    "WHERE job_id = {} GROUP BY state",
    "errors": "SELECT error_code, error_message, COUNT(*) FROM images WHERE job_id = {} AND error_code IS NOT NULL "
    "GROUP BY error_code, error_message",
    "chunks due": "SELECT COUNT(*) FROM chunks WHERE job_id = {} AND due_at IS NOT NULL",
}


def check(mariadb: MariaDB, job_id: int, *, images: int, perimeter: int) -> None:
    """Raises BenchError unless the job is completed, every image of it done and every counter right."""
    expected = {
        "job": [("completed", images, 0, images, 0, 0)],
        "images": [("done", images, perimeter)],
        "visits": [("completed", images, 0, 0, perimeter)],
        "errors": [],
        "chunks due": [(0,)],
    }
    found = {name: _ask(mariadb, query.format(job_id)) for name, query in QUERIES.items()}
    if wrong := [name for name in QUERIES if found[name] != expected[name]]:
        raise BenchError(
            f"the books of job {job_id} do not balance: "
            + "; ".join(f"{name}: {found[name]} instead of {expected[name]}" for name in wrong)
        )


def seconds_in_slots(mariadb: MariaDB, job_id: int) -> float:
    """The seconds that the images of a job spent in slots (downloading, being read, pausing), added up."""
    [(seconds,)] = _ask(mariadb, f"SELECT SUM(seconds) FROM images WHERE job_id = {job_id}")
    return float(seconds)


def _ask(mariadb: MariaDB, query: str) -> list[tuple[Any, ...]]:
    return mariadb.execute(query, database=DATABASE)
