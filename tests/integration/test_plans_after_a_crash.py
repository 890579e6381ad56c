"""What MariaDB does when it is back after a crash that came before its statistics were written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import event

from app import create_app
from app.domain import chunk_leases, recover, transactions
from app.domain.settling import write_all
from app.domain.works import ChunkKey, Work
from app.extensions import db
from config import Settings
from testbed.mariadb import MYSQLD, MariaDB
from tests.integration.hands import claim, done, settle

IMAGES = "INSERT INTO images (job_id, seq, url, state, attempts) VALUES " + ", ".join(
    f"(1, {seq}, 'https://host/1.jpg', 'open', 0)" for seq in range(2000)
)
JOB = """
INSERT INTO jobs (id, submission, source, state, priority, turn, keep_images, visits_total, images_total, images_open,
                  images_done, images_failed, images_cancelled, created_at)
VALUES (1, '1', 'urls', 'ongoing', 5, 0, 0, 0, 2000, 2000, 0, 0, 0, UTC_TIMESTAMP(6))
"""
CHUNKS = "INSERT INTO chunks (job_id, seq, first_image, images, due_at, claim) VALUES " + ", ".join(
    f"(1, {seq}, {seq * 100}, 100, UTC_TIMESTAMP(6), 0)" for seq in range(20)
)
# How EXPLAIN calls a table that is read from one end to the other, by itself or along an index.
# MySQL, which takes it for empty, also walks an index that it was told to take; what it only reads locks nothing.
SCANS = {"ALL"} if MYSQLD else {"ALL", "index"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    # A crash may come before they are written; here they never are.
    with MariaDB(options=["--innodb-stats-auto-recalc=OFF"]) as server:
        settings = Settings.from_env({}, DATABASE_URL=server.create_database("crash"), DATA_DIR=tmp_path)
        app = create_app(settings)
        with app.app_context():
            upgrade()
            for statement in (JOB, CHUNKS, IMAGES):
                server.execute(statement, database="crash")
            server.kill()
            server.start()
            yield app
            db.engine.dispose()


def test_results_are_written_by_primary_key_though_the_server_takes_the_table_for_empty(app: Flask) -> None:
    """Each of them by a scan, a batch of 2,000 took 28 s and kept all other workers waiting."""
    assert transactions.read(_rows_by_statistics) == 0
    outcomes = [done(Work(1, seq, ChunkKey(1, 0), 1, None, "https://host/1.jpg", 0)) for seq in range(100)]
    with noted() as statements:
        assert len(transactions.run(lambda session: write_all(session, outcomes))) == 100
    [(statement, parameters)] = [each for each in statements if each[0].startswith("UPDATE")]
    plan = transactions.read(lambda session: _explain(session, statement, parameters))
    assert [(row["table"], row["type"], row["key"]) for row in plan][1:] == [("images", "eq_ref", "PRIMARY")]


def test_claims_and_leases_find_their_rows_by_key_though_the_server_takes_the_tables_for_empty(app: Flask) -> None:
    """A scan that locks the chunks of everybody leaves nothing to claim for the others."""
    with noted() as statements:
        claimed = claim(images=300)
        assert [each.key.seq for each in claimed] == [0, 1, 2]
        chunk_leases.renew([(each.key, each.token) for each in claimed], lease_seconds=60)
        settle(claimed[:1])
        chunk_leases.release([(each.key, each.token) for each in claimed[1:]])
        recover.recover()
    plans = [(each, transactions.read(lambda session, each=each: _explain(session, *each))) for each in statements]
    for (statement, _), plan in plans:
        for table in ("chunks", "images", "jobs"):
            assert not [row for row in plan if row["table"] == table and row["type"] in SCANS], statement
        if statement.startswith("UPDATE chunks"):
            assert plan[0]["key"] == "PRIMARY", "by its index over due_at it would lock all chunks of the job"
    assert len(plans) > 15


@contextmanager
def noted() -> Iterator[list[tuple[str, Any]]]:
    """The statements, with their parameters, of the block."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if not statement.startswith("INSERT"):
            statements.append((statement, parameters))

    event.listen(db.engine, "before_cursor_execute", note)
    yield statements
    event.remove(db.engine, "before_cursor_execute", note)


def _rows_by_statistics(session: Any) -> Any:
    query = "SELECT n_rows FROM mysql.innodb_table_stats WHERE database_name = 'crash' AND table_name = 'images'"
    return session.connection().exec_driver_sql(query).scalar()


def _explain(session: Any, statement: str, parameters: Any) -> list[Any]:
    return list(session.connection().exec_driver_sql(f"EXPLAIN {statement}", parameters).mappings())
