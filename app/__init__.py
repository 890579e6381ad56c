"""The service. ``create_app`` is where web servers find it; nobody else imports from here.

The factory is loaded when it is called, so that the command-line client of this package, which wants ``requests`` and
a terminal, starts without Flask, Celery and SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from config import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """See ``app.factory.create_app``."""
    app: Flask = import_module("app.factory").create_app(settings)
    return app
