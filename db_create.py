"""Create or migrate the database and load the store master: python db_create.py [--stores FILE.csv]

The MySQL database itself is created too where it is missing and the account may. Harmless when it runs again, and
when several run at once. Exits with 1 and one sentence where something cannot be done; refused lines are only told.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import flask_migrate
from sqlalchemy import URL, Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from app.domain import stores
from app.errors import ImagejobsError, InvalidRequestError, SettingError
from app.extensions import MIGRATIONS, db, init_migrations
from app.runtime import create_runtime
from config import Settings

SAMPLE = Path(__file__).resolve().parent / "data" / "stores_sample.csv"
# MySQL's "unknown database", and "access denied to it", which is what accounts with few rights are told instead.
DATABASE_IS_MISSING = {1049, 1044}
CONNECT_SECONDS = 5
# Below the driver's read timeout, which would end the wait with a lost connection.
MIGRATION_WAIT_SECONDS = 50


def main() -> int:
    parser = argparse.ArgumentParser(description="Create or migrate the database and load the store master.")
    parser.add_argument("--stores", type=Path, metavar="FILE.csv", help="load or update the stores in this file")
    parser.add_argument("--sample", action="store_true", help=f"load {SAMPLE.name} where there are no stores yet")
    options = parser.parse_args()
    try:
        run(Settings.from_env(), options.stores, with_sample=options.sample)
    except ImagejobsError as error:
        return _cannot(str(error))
    except DBAPIError as error:
        return _cannot(f"the database refuses: {_reason(error)}")
    except OSError as error:
        return _cannot(f"{error.filename}: {error.strerror}")
    return 0


def _cannot(sentence: str) -> int:
    print(f"db_create: {sentence}", file=sys.stderr)
    return 1


def run(settings: Settings, stores_file: Path | None = None, *, with_sample: bool = False) -> None:
    """Make the database ready and load ``stores_file``, or the sample where there are no stores.

    Raises ImagejobsError, DBAPIError or OSError.
    """
    if stores_file is not None and not stores_file.is_file():
        raise InvalidRequestError(f"there is no file {stores_file}")
    url = make_url(settings.database_url)
    if url.get_backend_name() == "mysql":
        create_database(url)
    app = create_runtime(settings)
    init_migrations(app)
    with app.app_context():
        # Its lines about contexts and DDL tell nobody what was done; ours do.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        with _alone(db.engine):
            flask_migrate.upgrade(directory=str(MIGRATIONS))
        print(f"the database {url.render_as_string(hide_password=True)} is ready")
        if stores_file is not None:
            load_stores(stores_file)
        elif with_sample and not stores.has_any():
            load_stores(SAMPLE)


def create_database(url: URL) -> None:
    """Create the MySQL database of ``url`` if it is missing. Raises SettingError where that is not possible."""
    if not url.database:
        raise SettingError("DATABASE_URL names no database")
    try:
        _execute(url, "SELECT 1")
    except DBAPIError as error:
        if error.orig is None or error.orig.args[0] not in DATABASE_IS_MISSING:
            raise SettingError(f"the database at {url.host} cannot be reached: {_reason(error)}") from error
        _create(url)


def _create(url: URL) -> None:
    name = (url.database or "").replace("`", "``")
    statement = f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    try:
        _execute(url.set(database=""), statement)
    except DBAPIError as error:
        raise SettingError(f"the database {url.database} is missing and cannot be created: {_reason(error)}") from error


def _execute(url: URL, statement: str) -> None:
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_SECONDS})
    with engine.begin() as connection:
        connection.exec_driver_sql(statement.replace("%", "%%"))


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Hold MySQL's advisory lock, so that of two processes the second finds the tables made; SQLite has one writer."""
    if engine.dialect.name != "mysql":
        yield
        return
    name = {"name": f"imagejobs migrates {engine.url.database}"[:64], "seconds": MIGRATION_WAIT_SECONDS}
    with engine.connect() as connection:
        if connection.scalar(text("SELECT GET_LOCK(:name, :seconds)"), name) != 1:
            raise SettingError("another process is still migrating this database; try again when it is done")
        try:
            yield
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), name)


def load_stores(file: Path) -> None:
    with file.open("rb") as stream:
        report = stores.load(stream)
    for line, reason in report.refused:
        print(f"{file.name}, line {line} refused: {reason}")
    counts = f"{report.added} added, {report.changed} changed, {report.unchanged} unchanged"
    print(f"stores: {counts}, {len(report.refused)} lines refused")


def _reason(error: DBAPIError) -> str:
    return str(error.orig.args[-1] if error.orig and error.orig.args else error)


if __name__ == "__main__":
    sys.exit(main())
