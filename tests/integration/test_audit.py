"""``imagejobs audit``: silent over books that balance, and one sentence for each way in which they may not."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from app.cli import main
from app.domain import audit, transactions
from tests.conftest import Backend
from tests.integration.hands import add_stores, claim, failed, settle, submit, visit, work_off


@pytest.fixture
def half_done(app: Flask, client: FlaskClient) -> int:
    """A job of 60 images in two visits and six chunks, one of which is settled, and a job that is completed."""
    add_stores(app)
    submit(client, visit(images=3))
    work_off(app)
    job_id = submit(client, visit(images=30), visit("S01408764", images=30), visit("S_UNKNOWN", images=2))
    with app.app_context():
        settle(claim(images=10))
    return job_id


def codes(app: Flask) -> set[str]:
    with app.app_context():
        return {finding.code for finding in audit.run().findings}


def spoil(app: Flask, statement: str, job_id: int) -> None:
    with app.app_context():
        transactions.run(lambda session: session.execute(text(statement), {"job": job_id}))


def test_books_of_running_and_ended_jobs_balance(app: Flask, half_done: int) -> None:
    assert codes(app) == set()
    with app.app_context():
        settle(claim(images=10), failed)
    assert codes(app) == set()
    work_off(app)
    with app.app_context():
        assert audit.run() == audit.Audit(jobs=2, images=65, findings=())


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DELETE FROM images WHERE job_id = :job AND seq = 59", {"job_rows", "job_counters", "visit_counters"}),
        ("UPDATE jobs SET images_done = images_done + 1 WHERE id = :job", {"job_counters"}),
        ("UPDATE jobs SET state = 'completed' WHERE id = :job", {"job_open", "job_state", "chunk_left"}),
        ("UPDATE jobs SET finished_at = created_at WHERE id = :job", {"job_state"}),
        ("UPDATE jobs SET visits_total = 7 WHERE id = :job", {"job_visits"}),
        ("UPDATE visits SET images_failed = 1 WHERE job_id = :job AND seq = 0", {"visit_counters"}),
        ("UPDATE visits SET perimeter = perimeter + 1000 WHERE job_id = :job AND seq = 0", {"visit_perimeter"}),
        ("UPDATE visits SET state = 'completed' WHERE job_id = :job AND seq = 1", {"visit_state", "visit_sums"}),
        ("UPDATE images SET perimeter = 9 WHERE job_id = :job AND seq = 59", {"image_half_settled", "visit_perimeter"}),
        ("UPDATE images SET settled_at = NULL WHERE job_id = :job AND seq = 0", {"image_half_settled"}),
        ("UPDATE chunks SET due_at = NULL WHERE job_id = :job AND seq = 5", {"chunk_forgotten", "images_uncovered"}),
        ("DELETE FROM chunks WHERE job_id = :job AND seq = 5", {"images_uncovered"}),
        ("UPDATE chunks SET images = 11 WHERE job_id = :job AND seq = 4", {"chunks_overlap", "images_uncovered"}),
        ("DELETE FROM visits WHERE job_id = :job AND seq = 1", {"job_visits", "image_without_visit"}),
        ("DELETE FROM jobs WHERE id = :job", {"visit_orphan", "chunk_orphan", "image_orphan"}),
    ],
)  # fmt: skip
def test_each_fault_is_found(app: Flask, half_done: int, statement: str, expected: set[str]) -> None:
    spoil(app, statement, half_done)
    assert codes(app) == expected


def test_job_without_open_images_must_be_closed(app: Flask, half_done: int) -> None:
    work_off(app)
    spoil(app, "UPDATE jobs SET state = 'ongoing', finished_at = NULL WHERE id = :job", half_done)
    assert codes(app) == {"job_not_closed"}


def test_job_that_nobody_works_on_for_long_is_told(app: Flask, half_done: int) -> None:
    long_ago = "'2020-01-01 00:00:00.000000'"
    spoil(app, f"UPDATE chunks SET due_at = {long_ago} WHERE job_id = :job AND due_at IS NOT NULL", half_done)
    assert codes(app) == set(), "its chunks were claimed a moment ago"
    spoil(app, f"UPDATE chunks SET claimed_at = {long_ago} WHERE job_id = :job", half_done)
    spoil(app, f"UPDATE jobs SET created_at = {long_ago} WHERE id = :job", half_done)
    assert codes(app) == {"job_stalled"}


def test_jobs_are_read_in_ranges_that_miss_none(
    app: Flask, client: FlaskClient, half_done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "IMAGES_A_RANGE", 1)
    assert codes(app) == set()
    spoil(app, "DELETE FROM jobs WHERE id = :job", half_done)
    assert codes(app) == {"visit_orphan", "chunk_orphan", "image_orphan"}


def test_command_tells_by_its_exit_code(
    app: Flask, half_done: int, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", backend.database_url)
    clean = CliRunner().invoke(main, ["audit"])
    assert (clean.exit_code, clean.output[:28]) == (0, "2 jobs with 65 images read in"[:28])
    spoil(app, "UPDATE jobs SET images_done = 77 WHERE id = :job", half_done)
    found = CliRunner().invoke(main, ["audit", "--json"])
    assert found.exit_code == 1
    [finding] = json.loads(found.stdout)["findings"]
    assert (finding["code"], finding["job_id"]) == ("job_counters", half_done)
    assert CliRunner().invoke(main, ["audit", "--job", str(half_done - 1)]).exit_code == 0
    monkeypatch.setenv("DATABASE_URL", "mysql+pymysql://nobody@127.0.0.1:1/nothing")
    assert CliRunner().invoke(main, ["audit"]).exit_code == 2
