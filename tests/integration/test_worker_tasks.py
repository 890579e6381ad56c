"""Workers that only build reports, beside workers that leave reports to them (WORKER_TASKS)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from app.domain import reports, submissions, transactions, workers
from app.models import Chunk, Report, ReportState, Upload
from testbed.processes import Process, wait_for
from tests.integration.hands import expect_books_balanced
from tests.integration.test_reports import CAT, contents, upload
from tests.integration.test_workers import wait_until_settled


@pytest.fixture
def app(make_app: Callable[..., Flask], worker_env: dict[str, str], tmp_path: Path) -> Flask:
    worker_env |= {"STORAGE_URL": (tmp_path / "files").as_uri(), "LEASE_SECONDS": "30"}
    return make_app(STORAGE_URL=worker_env["STORAGE_URL"])


def rows(query: Any) -> list[tuple[Any, ...]]:
    return transactions.read(lambda session: [tuple(row) for row in session.execute(query)])


def known() -> dict[int, tuple[int, int]]:
    """The slots of each worker that lives, and how many results it has written."""
    return {worker.pid: (worker.slots, worker.settled) for worker, is_alive in workers.find() if is_alive}


def test_reports_are_built_by_their_own_worker_and_images_taken_by_the_others(
    app: Flask, client: FlaskClient, start_worker: Callable[..., Process]
) -> None:
    with app.app_context():
        for_reports = start_worker(WORKER_TASKS="reports")
        first = upload(("cat.png", CAT))
        job_id = wait_for(lambda: submissions.get(first).upload.job_id, 30, what="a job out of the photos")
        wait_for(known, 30, what="the row of the worker")
        assert known() == {for_reports.pid: (0, 0)}
        assert "for reports" in client.get("/dashboard/control").text
        assert for_reports.stop() == 0
        assert known() == {}, "it says good-bye"
        # By its bell, and by its own look at the start, a worker with a pump had claimed the image by now.
        assert rows(select(Chunk.claim)) == [(0,)]

        for_images = start_worker(WORKER_TASKS="images", GPU_PAUSE_MIN_SECONDS="0", GPU_PAUSE_MAX_SECONDS="0")
        second = upload(("cat.png", CAT))
        wait_until_settled(client, job_id)
        assert rows(select(Upload.claim).where(Upload.id == second)) == [(0,)]
        assert set(rows(select(Report.claim))) <= {(0,)}

        again = start_worker(WORKER_TASKS="reports")
        wait_for(lambda: reports.get(job_id).state is ReportState.DONE, 60, what="the report")
        assert contents(job_id).testzip() is None
        assert wait_for(lambda: submissions.get(second).upload.job_id, 30, what="the second job")
        wait_until_settled(client, job_id + 1)
        wait_for(lambda: known().get(for_images.pid, (0, 0))[1] == 2, 30, what="its second result")
        assert known()[again.pid] == (0, 0)
    expect_books_balanced(app)
