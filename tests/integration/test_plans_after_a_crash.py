"""What MariaDB does when it is back after a crash that came before its statistics were written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import event

from app import create_app
from app.domain import transactions
from app.domain.claims import ChunkKey, Work
from app.domain.settling import write_all
from app.extensions import db
from config import Settings
from testbed.mariadb import MariaDB
from tests.integration.hands import done

IMAGES = """
INSERT INTO images (job_id, seq, url, state, attempts) SELECT 1, seq, 'https://host/1.jpg', 'open', 0 FROM seq_0_to_1999
"""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    # A crash may come before they are written; here they never are.
    with MariaDB(options=["--innodb-stats-auto-recalc=OFF"]) as server:
        settings = Settings.from_env({}, DATABASE_URL=server.create_database("crash"), DATA_DIR=tmp_path)
        app = create_app(settings)
        with app.app_context():
            upgrade()
            server.execute(IMAGES, database="crash")
            server.kill()
            server.start()
            yield app
            db.engine.dispose()


def test_results_are_written_by_primary_key_though_the_server_takes_the_table_for_empty(app: Flask) -> None:
    """Each of them by a scan, a batch of 2,000 took 28 s and kept all other workers waiting."""
    assert transactions.read(_rows_by_statistics) == 0
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        statements.append((statement, parameters))

    event.listen(db.engine, "before_cursor_execute", note)
    outcomes = [done(Work(1, seq, ChunkKey(1, 0), 1, None, "https://host/1.jpg", 0)) for seq in range(100)]
    assert len(transactions.run(lambda session: write_all(session, outcomes))) == 100
    event.remove(db.engine, "before_cursor_execute", note)
    [(statement, parameters)] = [each for each in statements if each[0].startswith("UPDATE")]
    plan = transactions.read(lambda session: _explain(session, statement, parameters))
    assert [(row["table"], row["type"], row["key"]) for row in plan][1:] == [("images", "eq_ref", "PRIMARY")]


def _rows_by_statistics(session: Any) -> Any:
    query = "SELECT n_rows FROM mysql.innodb_table_stats WHERE database_name = 'crash' AND table_name = 'images'"
    return session.connection().exec_driver_sql(query).scalar()


def _explain(session: Any, statement: str, parameters: Any) -> list[Any]:
    return list(session.connection().exec_driver_sql(f"EXPLAIN {statement}", parameters).mappings())
