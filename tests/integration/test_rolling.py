"""A new release while the old one works: migrations only add, adding disturbs nobody in the middle of a job, and a
release of this repository's own past works beside the present one on the newest tables."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from flask_migrate import upgrade

from app import create_app
from app.extensions import db
from config import Settings
from demo.host import Host
from testbed import processes
from testbed.mariadb import MariaDB
from testbed.processes import PROJECT, Process, free_port, is_listening, wait_for
from testbed.redis import Redis
from tests.integration import hands
from tests.integration.test_workers import asked, good, wait_until_settled, wait_until_some_done

# What takes something away belongs into a later release, once no code uses it any more; name its statement here then.
CONTRACTIONS: set[str] = {
    # Indexes that no release names in a hint: old code is slower without them, and right.
    "DROP INDEX ix_jobs_state_lane_turn ON jobs",
    "DROP INDEX ix_jobs_state_turn ON jobs",
}
# A commit with tables up to 0015, before lanes, sums of visits, exports and shares. To be moved on once no such release
# runs anywhere.
OLD_RELEASE = "a9c68d8"
EXPANSIONS = (
    r"CREATE TABLE ",
    r"CREATE (UNIQUE )?INDEX ",
    # A column that old code does not know must be able to stay empty when that code writes a row.
    r"ALTER TABLE \w+ ADD COLUMN (?!.*NOT NULL)",
    r"ALTER TABLE \w+ ADD COLUMN .* DEFAULT ",
    r"INSERT INTO \w+ ",
    r"UPDATE \w+ SET ",
)


def statements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """All statements of all migrations after the first, as MySQL gets them."""
    app = create_app(Settings.from_env({}, DATABASE_URL="mysql+pymysql://u:p@127.0.0.1:1/d", DATA_DIR=tmp_path))
    with app.app_context():
        upgrade(revision="0001:head", sql=True)
    text = re.sub(r"^--.*$", "", capsys.readouterr().out, flags=re.MULTILINE)
    found = [" ".join(each.split()) for each in text.split(";")]
    return [each for each in found if each and "alembic_version" not in each]


def test_migrations_only_add(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = statements(tmp_path, capsys)
    assert len(found) > 5
    for statement in found:
        assert statement in CONTRACTIONS or any(re.match(each, statement) for each in EXPANSIONS), statement


@pytest.mark.parametrize("statement", [
    "ALTER TABLE jobs DROP COLUMN turn", "ALTER TABLE jobs ADD COLUMN kind VARCHAR(9) NOT NULL", "DROP TABLE visits",
    "ALTER TABLE jobs MODIFY priority INTEGER", "ALTER TABLE jobs RENAME TO works",
])  # fmt: skip
def test_what_would_disturb_old_code_is_seen(statement: str) -> None:
    assert not any(re.match(each, statement) for each in EXPANSIONS)


def test_tables_grow_in_the_middle_of_a_job(mariadb: MariaDB, redis_server: Redis, host: Host, tmp_path: Path) -> None:
    """The workers are the old release here, the columns, index and table those of a release to come."""
    env = {
        "DATABASE_URL": mariadb.create_database("rolling"),
        "REDIS_URL": redis_server.url.replace("/0", "/1"),
        "DATA_DIR": str(tmp_path),
        "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
        "SLOTS": "20",
    }
    app = create_app(Settings.from_env(env))
    with app.app_context():
        upgrade()
    hands.add_stores(app)
    client = app.test_client()
    with ExitStack() as stack:
        old = [stack.enter_context(processes.worker(env, tmp_path / f"{name}.log", name=name)) for name in "ab"]
        job = hands.submit(client, hands.visit(images=good(host, 150)), hands.visit(images=good(host, 150)))
        wait_until_some_done(client, job, 30)
        with app.app_context(), db.engine.connect() as connection:
            add = Operations(MigrationContext.configure(connection))
            add.add_column("jobs", sa.Column("kind", sa.String(9)))
            add.add_column("images", sa.Column("grade", sa.SmallInteger(), nullable=False, server_default="0"))
            add.create_index("ix_images_grade", "images", ["grade", "job_id"])
            add.create_table("grades", sa.Column("id", sa.Integer(), primary_key=True))
            connection.commit()
        assert client.get(f"/api/status?jobid={job}").json["status"] == "ongoing"
        another = hands.submit(client, hands.visit(images=good(host, 20)))
        for each in (job, another):
            assert wait_until_settled(client, each)["status"] == "completed"
        assert all(process.is_alive for process in old)
        hands.expect_books_balanced(app)
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def old_release(tmp_path: Path) -> Path:
    """The old release, as it was."""
    argv = [
        "git",
        "archive",
        OLD_RELEASE,
        "app",
        "config.py",
        "celery_worker.py",
        "db_create.py",
        "deploy",
        "migrations",
    ]
    done = subprocess.run([*argv, "data"], cwd=PROJECT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("the history of this repository is not here: " + done.stderr.decode()[:200])
    folder = tmp_path / "old"
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_the_release_before_works_beside_this_one_on_the_newest_tables(
    mariadb: MariaDB, redis_server: Redis, host: Host, old_release: Path, tmp_path: Path
) -> None:
    env = {
        "DATABASE_URL": mariadb.create_database("two_releases"),
        "REDIS_URL": redis_server.url.replace("/0", "/2"),
        "DATA_DIR": str(tmp_path),
        "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
        "SLOTS": "20",
    }
    stores = tmp_path / "stores.csv"
    stores.write_text("AreaCode,StoreName,StoreID\n710006,BHARAT STORE,S00339218\n")

    def create_tables(cwd: Path) -> None:
        argv = [sys.executable, "db_create.py", "--stores", str(stores)]
        subprocess.run(argv, cwd=cwd, env=os.environ | env, check=True, capture_output=True)

    def submit_to_old(images: list[str]) -> int:
        visits = [{"store_id": "S00339218", "image_url": images, "visit_time": "2020-09-02T00:00:53Z"}]
        answer = requests.post(f"{old_web}/api/submit/", json={"count": 1, "visits": visits}, timeout=30)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["job_id"])

    with ExitStack() as stack:
        create_tables(old_release)
        port = free_port()
        old_web = f"http://127.0.0.1:{port}"
        gunicorn = ["-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "--bind", f"127.0.0.1:{port}"]
        log = tmp_path / "old-web.log"
        stack.enter_context(Process([sys.executable, *gunicorn], env=env, log=log, cwd=old_release))
        old_log = tmp_path / "old.log"
        old = stack.enter_context(processes.worker(env, old_log, name="old", cwd=old_release))
        wait_for(lambda: is_listening(port), 60, what="the old web server")
        first = submit_to_old(good(host, 300))
        app = create_app(Settings.from_env(env))
        client = app.test_client()
        status = f"{old_web}/api/status?jobid={first}"
        wait_for(
            lambda: requests.get(status, timeout=30).json()["images"]["done"] > 30, 60, what="the old worker's results"
        )

        create_tables(PROJECT)
        new = stack.enter_context(processes.worker(env, tmp_path / "new.log", name="new"))
        jobs = [first, submit_to_old(good(host, 200)), hands.submit(client, hands.visit(images=good(host, 200)))]
        for job in jobs:
            assert wait_until_settled(client, job)["status"] == "completed"
        assert old.is_alive and new.is_alive
        assert "ERROR" not in old.text and "CRITICAL" not in old.text
        assert requests.get(f"{old_web}/api/status?jobid={jobs[2]}", timeout=30).json()["status"] == "completed"
        assert asked(host).total() == 700, "an image was downloaded twice, or not at all"
        old.stop()
        # What the old release cannot know of is put right once none of it is left.
        argv = [sys.executable, "-m", "app.cli", "recount"]
        subprocess.run(argv, cwd=PROJECT, env=os.environ | env, check=True, capture_output=True)
        last = hands.submit(client, hands.visit(images=good(host, 5)))
        assert wait_until_settled(client, last)["status"] == "completed"
        hands.expect_books_balanced(app)
        shown = client.get("/api/visits?storeid=S00339218&format=flat").json["results"]
        assert len(shown) == 4
    with app.app_context():
        db.engine.dispose()
