"""A host that is cut off in the middle of a transaction: nobody waits for its locks for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import select

from app import create_app, extensions
from app.domain import transactions
from app.extensions import db
from app.models import Job
from config import Settings
from testbed.mariadb import MYSQLD, MariaDB
from testbed.processes import wait_for
from tests.integration import hands

pytestmark = pytest.mark.skipif(bool(MYSQLD), reason="MySQL has no such setting")


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setattr(extensions, "IDLE_TRANSACTION_SECONDS", 2)
    with MariaDB(options=["--innodb-lock-wait-timeout=1"]) as server:
        app = create_app(Settings.from_env({}, DATABASE_URL=server.create_database("idle"), DATA_DIR=tmp_path))
        with app.app_context():
            upgrade()
            yield app
            db.engine.dispose()


def test_the_locks_of_one_that_says_nothing_more_are_released(app: Flask) -> None:
    job = hands.submit(app.test_client())
    row = select(Job.id).where(Job.id == job).with_for_update()
    with db.engine.connect() as silent:
        silent.execute(row)
        free = select(Job.id).where(Job.id == job).with_for_update(skip_locked=True)
        is_free: Callable[[], bool] = lambda: transactions.read(lambda session: session.scalar(free)) == job  # noqa: E731
        assert not is_free()
        wait_for(is_free, 30, what="the lock to be released")
        silent.invalidate()
