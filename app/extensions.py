"""The objects that live once a process: database, migrations, Celery; storage and settings are the current app's."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from celery import Celery, Task
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from kombu import Queue
from kombu.transport import redis as redis_transport
from sqlalchemy import Engine, event, make_url
from werkzeug.local import LocalProxy

from app import broker, handshakes, processors
from app.errors import SettingError
from app.later import Later
from app.models import Base, JobSource
from app.storage import Credentials, Prefix, Storage, open_storage
from config import Settings

if TYPE_CHECKING:
    import flask_migrate
else:
    flask_migrate = Later("flask_migrate")

# A host that is cut off in the middle of a transaction keeps its locks until the server gives its connection up, and
# others would wait for hours. Ours think for milliseconds between two statements; the default lease is longer.
IDLE_TRANSACTION_SECONDS = 30
# How long one of SQLite's writers waits for the others.
SQLITE_WAIT_SECONDS = 30
MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

# Objects stay readable after the commit: handlers shape their answers from them.
db = SQLAlchemy(metadata=Base.metadata, session_options={"expire_on_commit": False})
celery = Celery("imagejobs")
settings = cast(Settings, LocalProxy(lambda: current_app.config["SETTINGS"]))
storage = cast(Storage, LocalProxy(lambda: current_app.extensions["storage"]))


def init_database(app: Flask, options: Settings) -> None:
    """Bind the database to ``app``; nothing connects before the first use."""
    app.config["SQLALCHEMY_DATABASE_URI"] = options.database_url
    handshakes.load_when_needed()
    is_sqlite = make_url(options.database_url).get_backend_name() == "sqlite"
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = _sqlite_options(options) if is_sqlite else _mysql_options()
    db.init_app(app)
    if is_sqlite:
        with app.app_context():
            _serialise_writers(db.engine)


def init_migrations(app: Flask) -> None:
    """Have ``flask db`` and ``flask_migrate`` find the migrations; workers never migrate, and do not load Alembic."""
    flask_migrate.Migrate(app, db, str(MIGRATIONS), render_as_batch=True)


def _mysql_options() -> dict[str, Any]:
    return {
        "isolation_level": "READ COMMITTED",
        "pool_pre_ping": True,
        "pool_recycle": 1800,
        "pool_timeout": 5,
        "connect_args": {
            "connect_timeout": 5,
            "read_timeout": 60,
            "write_timeout": 60,
            # Errors instead of cut values, whatever the server's own mode is. The comment is read by MariaDB alone.
            "init_command": "SET time_zone = '+00:00', sql_mode = "
            "'STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,ONLY_FULL_GROUP_BY'"
            f" /*M!100300 , idle_transaction_timeout = {IDLE_TRANSACTION_SECONDS} */",
        },
    }


def _sqlite_options(options: Settings) -> dict[str, Any]:
    file = make_url(options.database_url).database
    if file and file != ":memory:":
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    return {"connect_args": {"timeout": SQLITE_WAIT_SECONDS, "check_same_thread": False}}


def _serialise_writers(engine: Engine) -> None:
    """WAL, and BEGIN IMMEDIATE for writers: a read that turns into a write would fail at once instead of waiting."""

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late
        cursor = connection.cursor()
        _switch_to_wal(cursor)
        for pragma in ("synchronous=FULL", f"busy_timeout={1000 * SQLITE_WAIT_SECONDS}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "checkin")
    def end(connection: Any, _record: object) -> None:
        # After a COMMIT that failed, SQLAlchemy takes the transaction for ended; here it still holds the write lock.
        if connection is not None and connection.in_transaction:
            connection.rollback()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        is_write = connection.get_execution_options().get("is_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    """Where others are just switching the same new file SQLite does not wait, but says at once that it is locked."""
    until = time.monotonic() + SQLITE_WAIT_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def init_storage(app: Flask, options: Settings) -> None:
    """Bind the storage to ``app``; nothing connects before the first use, and no folder is made."""
    account = Credentials(options.AWS_ACCESS_KEY_ID, options.AWS_SECRET_ACCESS_KEY, options.AWS_SESSION_TOKEN)
    app.extensions["storage"] = open_storage(options.storage_url, account)
    in_bucket = options.MANIFEST_DIR.startswith("s3:")
    app.extensions["manifest_prefix"] = Prefix(options.MANIFEST_DIR, account) if in_bucket else None


def manifest_prefix() -> Prefix | None:
    """Where manifests are looked up, where that is no folder but in a bucket."""
    return cast("Prefix | None", current_app.extensions["manifest_prefix"])


class Channel(redis_transport.Channel):
    """Leaves to their fate the messages of a connection that broke while their tasks ran.

    kombu would put them back by a client that it can no longer make, and the worker would end of that in the middle of
    its work. They are bells: those that are lost cost a few seconds.
    """

    do_restore = False

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        if not self.closed:
            super().basic_ack(delivery_tag, multiple=multiple)


redis_transport.Transport.Channel = Channel


def init_celery(app: Flask, options: Settings) -> None:
    """Configure Celery; each setting below closes a gap that its comment names."""
    celery.conf.update(
        broker_url=broker.celery_url(options.REDIS_URL, options.DATA_DIR),
        # One pump with one loop a process; its threads are started by the first task.
        worker_pool="threads",
        worker_concurrency=4,
        worker_prefetch_multiplier=1,
        # The database is the record of work; a message that is lost or repeated costs nothing. The transport takes it
        # off its list before it notes it, so a kill in between loses it (celery #7950, #4354, kombu #305).
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_serializer="json",
        accept_content=["json"],
        task_publish_retry=False,
        **_queues(options),
        task_create_missing_queues=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # A worker keeps trying for ever: its supervisor need not know whether the broker is up. Some releases hear
        # nothing once they are connected again (celery #8030, #8091, #8384, #10205): workers look for themselves too.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 3600,
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        imports=["app.tasks"],
    )
    celery.Task = _in_context(app)
    celery.set_default()
    app.extensions["celery"] = celery


def _queues(options: Settings) -> dict[str, Any]:
    """What a worker of this process listens to: the bells for all, or those of its doors or lanes; those for reports.

    One that has doors and lanes hears those of its doors. Raises SettingError.
    """
    if unknown := set(options.worker_sources) - set(JobSource):
        raise SettingError(f"WORKER_SOURCES: there is no door {', '.join(unknown)}; known are {', '.join(JobSource)}")
    if unknown := set(options.worker_lanes) - processors.lanes():
        known = ", ".join(sorted(processors.lanes()))
        raise SettingError(f"WORKER_LANES: there is no lane {', '.join(unknown)}; known are {known}")
    # As queues.of_door and queues.of_lane name them.
    of_doors = [f"images.{source}" for source in options.worker_sources]
    of_images = of_doors or [f"images-{lane}" for lane in options.worker_lanes] or ["images"]
    names = [*(of_images if options.takes_images else ()), *(["reports"] if options.builds_reports else ())]
    return {"task_default_queue": names[0], "task_queues": [Queue(name) for name in names]}


def _in_context(app: Flask) -> type[Task]:
    class ContextTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    return ContextTask
