"""What is done once a day, beside the recover loop, which must not wait for it."""

from __future__ import annotations

import threading
from typing import cast

import structlog
from flask import Flask, current_app
from sqlalchemy.exc import DBAPIError

from app.domain import exports, orphans, purges, uploads
from app.errors import StorageError, UnavailableError
from app.extensions import settings

log = structlog.get_logger()

DAY_SECONDS = 86_400.0
# Not at once: a process that is started again and again would do nothing else.
FIRST_SECONDS = 600.0


def start(stop: threading.Event) -> None:
    """Do the chores daily, in a thread of their own, until ``stop`` is set. Two such threads are harmless."""
    app = cast(Flask, current_app._get_current_object())  # type: ignore[attr-defined]
    threading.Thread(target=_run, args=(app, stop), name="chores", daemon=True).start()


def _run(app: Flask, stop: threading.Event) -> None:
    seconds = FIRST_SECONDS
    while not stop.wait(seconds):
        with app.app_context():
            do()
        seconds = DAY_SECONDS


def do() -> None:
    """Each chore once; one that fails is done the next day, and keeps no other from its turn."""
    for name, chore in {
        "purge": _purge,
        "uploads": uploads.forget,
        "exports": exports.forget,
        "orphans": orphans.remove,
    }.items():
        try:
            chore()
        except (StorageError, UnavailableError, DBAPIError) as error:
            log.warning("chore not done", chore=name, reason=str(error)[:200])


def _purge() -> None:
    if settings.RETENTION_DAYS:
        purges.purge(settings.RETENTION_DAYS)
