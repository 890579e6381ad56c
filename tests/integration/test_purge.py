"""`imagejobs purge`: old jobs leave with all that is theirs, and nothing else does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, update

from app.cli import main
from app.domain import audit, purges, transactions
from app.errors import StorageError
from app.extensions import db, storage
from app.models import Image, Job
from app.storage import new_key
from tests.conftest import Backend
from tests.integration import hands


@pytest.fixture
def app(make_app: Callable[..., Flask], tmp_path: Path) -> Flask:
    app = make_app(STORAGE_URL=(tmp_path / "files").as_uri())
    hands.add_stores(app)
    return app


def age(job_id: int, days: float) -> None:
    def work(session: Any) -> None:
        finished = session.scalar(select(Job.finished_at).where(Job.id == job_id))
        session.execute(update(Job).where(Job.id == job_id).values(finished_at=finished - timedelta(days=days)))

    transactions.run(work)


def rows_of(job_id: int) -> dict[str, int]:
    def count(session: Any) -> dict[str, int]:
        tables = [table for table in db.metadata.sorted_tables if "job_id" in table.c]
        query = {table.name: select(func.count()).where(table.c.job_id == job_id) for table in tables}
        return {name: found for name, each in query.items() if (found := session.scalar(each))}

    return transactions.read(count)


def give_files(job_id: int) -> list[str]:
    """Keep a file for each image of the job, as doors with uploads do."""

    def work(session: Any) -> list[str]:
        keys = []
        for seq in session.scalars(select(Image.seq).where(Image.job_id == job_id)).all():
            keys.append(new_key("images", ".jpg"))
            storage.put(keys[-1], b"photo")
            of_image = (Image.job_id == job_id) & (Image.seq == seq)
            session.execute(update(Image).where(of_image).values(storage_key=keys[-1]))
        return keys

    return transactions.run(work)


def kept_files() -> set[str]:
    return {found.key for found in storage.list("images")}


def test_old_jobs_leave_with_their_rows_and_files(app: Flask, client: FlaskClient) -> None:
    old, young = (hands.submit(client, hands.visit(images=25)) for _ in range(2))
    hands.work_off(app)
    ongoing = hands.submit(client, hands.visit(images=3))
    with app.app_context():
        before = rows_of(young)
        gone, kept = give_files(old), give_files(young) + give_files(ongoing)
        age(old, 31)
        age(young, 29)
        assert rows_of(old).keys() == {"visits", "chunks", "images"}
        assert purges.purge(30) == 1
        assert rows_of(old) == {} and rows_of(young) == before
        assert kept_files() == set(kept) and not kept_files() & set(gone)
        assert audit.run().findings == ()
        assert purges.purge(30) == 0
    assert client.get(f"/api/status?jobid={old}").status_code == 400
    assert client.get(f"/api/status?jobid={young}").status_code == 200


def test_many_jobs_leave(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purges, "JOBS_A_LOOK", 3)
    jobs = [hands.submit(client) for _ in range(8)]
    hands.work_off(app)
    with app.app_context():
        for job in jobs[:7]:
            age(job, 2)
        assert purges.purge(1) == 7


def test_a_job_that_is_retried_meanwhile_stays(app: Flask, client: FlaskClient) -> None:
    job = hands.submit(client, hands.visit(images=4))
    hands.work_off(app, hands.failed)
    with app.app_context():
        keys = give_files(job)
        age(job, 9)
        found = purges._find(Job.finished_at < func.now())
        assert next(found).id == job
        assert client.post(f"/api/jobs/{job}/retry", json={}).status_code == 202
        before = rows_of(job)
        assert purges._purge(job, Job.finished_at < func.now()) is False
        assert rows_of(job) == before
        assert kept_files() == set(keys)
        assert audit.run().findings == ()


def test_a_storage_that_is_away_keeps_the_rows(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = hands.submit(client, hands.visit(images=4))
    hands.work_off(app)
    with app.app_context():
        give_files(job)
        age(job, 9)
        folder = Path(storage.name) / "images"
        folder.rename(folder.with_name("elsewhere"))
        folder.write_text("a file where a folder is wanted")
        with pytest.raises(StorageError):
            purges.purge(1)
        assert rows_of(job)["images"] == 4
        folder.unlink()
        folder.with_name("elsewhere").rename(folder)
        assert purges.purge(1) == 1
        assert kept_files() == set()


def test_two_purges_at_once_do_no_harm(app: Flask, client: FlaskClient) -> None:
    for _ in range(6):
        hands.submit(client, hands.visit(images=20))
    hands.work_off(app)
    with app.app_context():
        for job in transactions.read(lambda session: session.scalars(select(Job.id)).all()):
            age(job, 2)
    purged: list[int] = []

    def work() -> None:
        with app.app_context():
            purged.append(purges.purge(1))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(purged) == 6


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_command_says_what_it_did(
    app: Flask, client: FlaskClient, backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = hands.submit(client)
    hands.work_off(app)
    with app.app_context():
        age(job, 3)
    monkeypatch.setenv("DATABASE_URL", backend.database_url)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert "everything is kept" in CliRunner().invoke(main, ["purge"]).output
    monkeypatch.setenv("RETENTION_DAYS", "2")
    for _ in range(2):
        listed = CliRunner().invoke(main, ["purge", "--dry-run"])
        assert f"job {job}: urls, ended 20" in listed.output
        assert listed.output.endswith("jobs that would be purged: 1\n")
    for said in ("jobs purged: 1\n", "jobs purged: 0\n"):
        done = CliRunner().invoke(main, ["purge"])
        assert done.exit_code == 0 and done.output.endswith(said)
