"""Every test that asks for ``client`` runs twice: on SQLite with the embedded broker, and on MariaDB with Redis."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from PIL import Image
from sqlalchemy import delete

from app import broker, create_app, queues
from app.domain import transactions
from app.extensions import db
from config import Settings
from testbed.mariadb import MariaDB
from testbed.redis import Redis
from testbed.s3 import S3

MOST_PIXELS = Image.MAX_IMAGE_PIXELS


@dataclasses.dataclass(frozen=True)
class Backend:
    """Where a service under test keeps its data; the schema is there, and tables are empty when a test starts."""

    name: str
    database_url: str
    redis_url: str
    data_dir: Path


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    with MariaDB() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    with S3() as server:
        yield server


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp("embedded")
    _migrate(Settings.from_env({}, DATABASE_URL=f"sqlite:///{folder}/empty.db", DATA_DIR=folder))
    with broker.running(folder):
        yield Backend("sqlite", f"sqlite:///{folder}/empty.db", "", folder)


@pytest.fixture(scope="session")
def servers(mariadb: MariaDB, redis_server: Redis, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    backend = Backend(
        "mariadb", mariadb.create_database("tests"), redis_server.url, tmp_path_factory.mktemp("production")
    )
    _migrate(Settings.from_env({}, DATABASE_URL=backend.database_url, REDIS_URL=backend.redis_url))
    return backend


def _migrate(settings: Settings) -> None:
    app = create_app(settings)
    with app.app_context():
        upgrade()
        db.engine.dispose()


@pytest.fixture(params=["sqlite", "mariadb"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "mariadb":
        return request.getfixturevalue("servers")
    embedded: Backend = request.getfixturevalue("embedded")
    shutil.copy(embedded.data_dir / "empty.db", tmp_path / "test.db")
    return dataclasses.replace(embedded, database_url=f"sqlite:///{tmp_path}/test.db")


@pytest.fixture
def settings(backend: Backend) -> Settings:
    return Settings.from_env(
        {},
        DATABASE_URL=backend.database_url,
        REDIS_URL=backend.redis_url,
        DATA_DIR=backend.data_dir,
        FETCH_ALLOWED_NETWORKS="127.0.0.0/8",
    )


@pytest.fixture(autouse=True)
def pillows_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits that one test sets hold for its whole process, which the next test shares."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", MOST_PIXELS)


@pytest.fixture(autouse=True)
def fresh_bell() -> None:
    """Ring at the broker of this test, not at that of the test before."""
    queues._connection.cache_clear()


@pytest.fixture
def make_app(settings: Settings) -> Iterator[Callable[..., Flask]]:
    """Make the app with some settings changed; its tables are emptied afterwards."""
    apps: list[Flask] = []

    def make(**changes: object) -> Flask:
        assert changes.keys() <= Settings.model_fields.keys(), "a setting that is not there changes nothing"
        apps.append(create_app(settings.model_copy(update=changes)))
        return apps[-1]

    yield make
    for app in apps:
        with app.app_context():
            transactions.run(lambda session: [session.execute(delete(table)) for table in db.metadata.sorted_tables])
            db.engine.dispose()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
