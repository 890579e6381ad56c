"""The migrations make the tables of the models, and take them away again, on both databases."""

from __future__ import annotations

import re

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from flask_migrate import downgrade, upgrade
from sqlalchemy import inspect, text

from app import create_app
from app.domain import audit, visit_groups
from app.domain.visit_groups import Group
from app.domain.visit_tables import Wanted
from app.extensions import MIGRATIONS, db
from config import Settings
from testbed.mariadb import MariaDB

TABLES = {
    "stores",
    "jobs",
    "visits",
    "chunks",
    "images",
    "idempotency_keys",
    "workers",
    "totals",
    "api_keys",
    "reports",
    "uploads",
    "upload_files",
    "storage_marks",
    "webhooks",
    "deliveries",
    "feed_items",
    "visit_sums",
    "visit_changes",
    "exports",
    "shares",
}


@pytest.fixture(params=["sqlite", "mariadb"])
def empty(request: pytest.FixtureRequest, tmp_path) -> Flask:
    url = f"sqlite:///{tmp_path}/deep/er/test.db"
    if request.param == "mariadb":
        url = request.getfixturevalue("mariadb").create_database("migrations")
    return create_app(Settings.from_env({}, DATABASE_URL=url, DATA_DIR=tmp_path))


def tables() -> set[str]:
    return set(inspect(db.engine).get_table_names()) - {"alembic_version"}


def test_up_and_down_and_up_again(empty: Flask) -> None:
    with empty.app_context():
        for _ in range(2):
            upgrade()
            assert tables() == TABLES
            downgrade(revision="base")
            assert tables() == set()
        upgrade()
        upgrade()
        assert tables() == TABLES


def test_the_tables_are_those_of_the_models(empty: Flask) -> None:
    with empty.app_context():
        upgrade()
        with db.engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "target_metadata": db.metadata}
            )
            assert compare_metadata(context, db.metadata) == []


def test_what_autogenerate_does_not_compare(empty: Flask) -> None:
    """Collation, the storage layout and the order of key columns."""
    with empty.app_context():
        upgrade()
        migrated = _created()
        downgrade(revision="base")
        db.metadata.create_all(db.engine)
        assert migrated == _created()


def _created() -> dict[str, str]:
    """How the database itself says each table was made, in one spelling."""
    with db.engine.connect() as connection:
        if db.engine.dialect.name == "sqlite":
            rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
            found = {name: " ".join(sql.split()).replace('"', "") for name, sql in rows}
            # A column that came later stands at the end; the commas of a key stand within parentheses.
            found = {
                name: "\n".join(sorted(re.split(r", (?![^(]*\))", sql.replace(" ( ", ", ", 1))))
                for name, sql in found.items()
            }
        else:
            found = {name: connection.execute(text(f"SHOW CREATE TABLE {name}")).one()[1] for name in TABLES}
            # Indexes come in the order of their making, which is none.
            found = {
                name: "\n".join(sorted(line.strip(" ,") for line in sql.split("\n"))) for name, sql in found.items()
            }
    return {name: sql for name, sql in found.items() if name != "alembic_version"}


def test_sums_begin_with_the_visits_that_are_there(empty: Flask) -> None:
    """They are noted in slices of 500 jobs; here are more, with gaps in their numbers."""
    job = (
        "INSERT INTO jobs (id, submission, source, state, priority, turn, keep_images, visits_total, images_total,"
        " images_open, images_done, images_failed, images_cancelled, created_at) VALUES (:id, :name, 'urls',"
        " 'completed', 5, 0, 0, 2, 2, 0, 2, 0, 0, '2020-09-03 00:00:00.000000')"
    )
    visit = (
        "INSERT INTO visits (job_id, seq, store_id, visited_at, visited_as_sent, state, images_total, images_open,"
        " images_failed, images_cancelled, perimeter, seconds, version) VALUES (:id, :seq, 'S1',"
        " '2020-09-02 10:00:00.000000', 'x', :state, 1, 0, 0, 0, 1000, 0.1, 1)"
    )
    jobs = [1, 7, *range(10, 510)]
    with empty.app_context():
        upgrade(revision="0016")
        with db.engine.connect().execution_options(is_write=True) as connection:
            connection.execute(text(job), [{"id": number, "name": str(number)} for number in jobs])
            rows = [{"id": number, "seq": seq, "state": "completed"} for number in jobs for seq in (0, 1)]
            connection.execute(text(visit), rows)
            connection.execute(text(visit), {"id": 7, "seq": 2, "state": "open"})
            connection.commit()
        upgrade()
        [row] = visit_groups.find(Wanted(), Group.DAY)
        assert (row.completed, row.open, row.perimeter) == (1004, 1, 1_004_000)
        assert [each for each in audit.run().findings if each.code == audit.SUMS] == []
        db.engine.dispose()


def test_there_is_one_head() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert len(scripts.get_heads()) == 1


def test_a_later_server_start_finds_its_data(mariadb: MariaDB, tmp_path) -> None:
    url = mariadb.create_database("migrations")
    for _ in range(2):
        app = create_app(Settings.from_env({}, DATABASE_URL=url, DATA_DIR=tmp_path))
        with app.app_context():
            upgrade()
            db.engine.dispose()
    [(_, created)] = mariadb.execute("SHOW CREATE TABLE images", database="migrations")
    assert "COLLATE=utf8mb4_bin" in created
    assert "`settled_at` datetime(6)" in created
