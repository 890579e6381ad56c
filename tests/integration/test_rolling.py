"""A new release while the old one works: migrations only add, and adding disturbs nobody in the middle of a job."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import pytest
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
from testbed.redis import Redis
from tests.integration import hands
from tests.integration.test_workers import good, wait_until_settled, wait_until_some_done

# What takes something away belongs into a later release, once no code uses it any more; name its statement here then.
CONTRACTIONS: set[str] = {
    # Indexes that no release names in a hint: old code is slower without them, and right.
    "DROP INDEX ix_jobs_state_lane_turn ON jobs",
    "DROP INDEX ix_jobs_state_turn ON jobs",
}
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
