"""`imagejobs backup` and `restore`: into an empty place, from either database into either, in the middle of a job."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from app import create_app
from app.cli import main
from app.domain import audit, backups, jobs, keys, sharing, transactions
from app.domain.jobs import NewImage, NewJob
from app.domain.keys import NewKey
from app.errors import BackupError
from app.extensions import db, storage
from app.models import JobSource
from app.storage import new_key
from config import Settings
from testbed.mariadb import MariaDB
from tests.integration import hands


@pytest.fixture
def app(make_app: Callable[..., Flask], tmp_path: Path) -> Flask:
    """A service with a bit of everything: jobs done, failed, waiting and half-way, keys, a stored file."""
    app = make_app(STORAGE_URL=(tmp_path / "files").as_uri())
    hands.add_stores(app)
    client = app.test_client()
    hands.submit(client, hands.visit(images=12), metadata={"till": None, "of": ["Müller"]})
    hands.work_off(app)
    hands.submit(client, hands.visit(images=3), hands.visit("NOWHERE"))
    hands.work_off(app, hands.failed)
    hands.submit(client, hands.visit(images=40))
    with app.app_context():
        keys.create(NewKey("till"))
        sharing.expect()  # as every door does before it puts a file
        storage.put(key := new_key("uploads", ".jpg"), b"a photo")
        image = NewImage(storage_key=key, content_type="image/jpeg", camera_id="7", results={"perimeter": {"a": 1.5}})
        jobs.create(NewJob(JobSource.BATCHES, images=[image]))
        hands.settle(hands.claim(images=10)[:1])
        hands.claim(images=10)
    return app


@pytest.fixture(params=["sqlite", "mariadb"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Flask]:
    """A service that was never used: no tables, no files."""
    url = f"sqlite:///{tmp_path}/restored.db"
    if request.param == "mariadb":
        server: MariaDB = request.getfixturevalue("mariadb")
        url = server.create_database("restored")
    options = {"DATABASE_URL": url, "DATA_DIR": str(tmp_path), "STORAGE_URL": (tmp_path / "restored").as_uri()}
    app = create_app(Settings.from_env(options))
    yield app
    with app.app_context():
        db.engine.dispose()


def content(app: Flask) -> dict[str, list[dict[str, Any]]]:
    tables = [table for table in db.metadata.sorted_tables if table.name not in backups.LEFT_OUT]

    def read(session: Any) -> dict[str, list[dict[str, Any]]]:
        queries = {table.name: select(table).order_by(*table.primary_key) for table in tables}
        return {name: [dict(row) for row in session.execute(query).mappings()] for name, query in queries.items()}

    with app.app_context():
        return transactions.read(read)


def test_what_is_restored_is_what_was_saved(app: Flask, empty: Flask, tmp_path: Path) -> None:
    with app.app_context():
        backup, saved = backups.save(tmp_path / "backups")
    assert saved.rows["jobs"] == 4 and saved.rows["api_keys"] == 1
    assert (saved.files, saved.files_missing) == (1, 0)
    with empty.app_context():
        assert backups.restore(backup) == saved
        assert audit.run().findings == ()
        [stored] = storage.list("uploads")
        assert storage.read(stored.key) == b"a photo"
        sharing.expect()  # it is another storage, and the right one from now on
    before, after = content(app), content(empty)
    for name, rows in before.items():
        assert after[name] == rows, name
    # And it goes on: what was claimed by workers that are gone comes back, new jobs get numbers of their own.
    hands.make_due(empty)
    hands.work_off(empty)
    assert hands.submit(empty.test_client()) > max(job["id"] for job in before["jobs"])
    hands.work_off(empty)
    hands.expect_books_balanced(empty)


def test_a_backup_in_the_middle_of_work_is_of_one_moment(app: Flask, empty: Flask, tmp_path: Path) -> None:
    """Between the tables that are read first and last, images are settled and a job is created."""
    with app.app_context():
        save_table = backups._save_table

        def save_and_disturb(session: Any, table: Any, folder: Path) -> int:
            count = save_table(session, table, folder)
            if table.name == "chunks":
                other = threading.Thread(target=disturb)
                other.start()
                other.join()
            return count

        def disturb() -> None:
            hands.make_due(app)
            assert hands.work_off(app) > 0
            hands.submit(app.test_client())

        backups._save_table, restored = save_and_disturb, backups._save_table
        try:
            backup, saved = backups.save(tmp_path / "backups")
        finally:
            backups._save_table = restored
    assert saved.rows["jobs"] == 4
    with empty.app_context():
        backups.restore(backup)
        assert audit.run().findings == ()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("empty", ["sqlite"], indirect=True)
def test_files_are_copied_once_for_all_backups(
    app: Flask, empty: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "backups"
    with app.app_context():
        first, _ = backups.save(folder)
        [copy] = list((folder / "files").rglob("*.jpg"))
        written = copy.stat().st_mtime_ns
        first.rename(folder / "2001-01-01T000000Z")
        [stored] = storage.list("uploads")
        storage.delete([stored.key])
        _, saved = backups.save(folder)
        assert (saved.files, saved.files_missing) == (1, 0)  # it is in the folder, wherever it is else
        assert copy.stat().st_mtime_ns == written
        assert backups.forget(folder, keep=1) == 1
        assert not (folder / "2001-01-01T000000Z").exists() and copy.exists()
        copy.unlink()
        (folder / next(folder.glob("2*Z")).name).rename(folder / "2001-01-01T000000Z")
        assert backups.save(folder)[1].files_missing == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("empty", ["sqlite"], indirect=True)
@pytest.mark.parametrize("harm", ["cut", "lost", "changed", "unfinished", "revision"])
def test_a_backup_that_is_not_whole_is_not_begun_with(app: Flask, empty: Flask, tmp_path: Path, harm: str) -> None:
    with app.app_context():
        backup, _ = backups.save(tmp_path / "backups")
    table, manifest = backup / "images.jsonl.gz", backup / "manifest.json"
    if harm == "cut":
        table.write_bytes(table.read_bytes()[:-20])
    elif harm == "lost":
        table.unlink()
    elif harm == "changed":
        table.write_bytes(gzip.compress(gzip.decompress(table.read_bytes()).replace(b"perimeter", b"perimetre")))
    elif harm == "unfinished":
        manifest.unlink()
    else:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"revision": "0001"}))
    with empty.app_context():
        with pytest.raises(BackupError):
            backups.restore(backup)
        assert db.inspect(db.engine).get_table_names() == []


def call(*argv: str, env: dict[str, str]) -> Result:
    return CliRunner().invoke(main, list(argv), env=env)


def test_nothing_is_restored_over_what_is_there(app: Flask, settings: Settings, tmp_path: Path) -> None:
    with app.app_context():
        backup, _ = backups.save(tmp_path / "backups")
    before = content(app)
    done = call("restore", str(backup), env={"DATABASE_URL": settings.database_url, "DATA_DIR": str(tmp_path)})
    assert done.exit_code == 1
    assert "the database is not empty" in done.output
    assert content(app) == before


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_commands(app: Flask, client: FlaskClient, settings: Settings, tmp_path: Path) -> None:
    env = {"DATABASE_URL": settings.database_url, "STORAGE_URL": (tmp_path / "files").as_uri()}
    done = call("backup", str(tmp_path / "backups"), "--keep", "2", env=env)
    assert done.exit_code == 0 and "4 jobs" in done.output and "1 files" in done.output
    [backup] = (tmp_path / "backups").glob("2*Z")
    env = {"DATABASE_URL": f"sqlite:///{tmp_path}/new.db", "STORAGE_URL": (tmp_path / "new").as_uri()}
    done = call("restore", str(backup), env=env)
    assert done.exit_code == 0 and "restored 4 jobs" in done.output
    assert call("audit", env=env).exit_code == 0
    assert "is no backup" in call("restore", str(tmp_path), env=env).output
