"""The service without its web part: what workers, the loops beside them and the commands on its hosts run in."""

from __future__ import annotations

from flask import Flask

from app import extensions, logs
from config import Settings


def create_runtime(settings: Settings | None = None) -> Flask:
    """An application without routes, for its context alone. Raises SettingError. Nothing connects before the first use.

    The web's modules would cost each worker 10 MB and 0.4 s of processor at its start.
    """
    app = Flask("app")
    bind(app, settings or Settings.from_env())
    return app


def bind(app: Flask, settings: Settings) -> None:
    """Give an application its settings, log, database, storage and Celery."""
    logs.configure(settings)
    app.config["SETTINGS"] = settings
    extensions.init_database(app, settings)
    extensions.init_storage(app, settings)
    extensions.init_celery(app, settings)
