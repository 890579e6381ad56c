"""The thread of a worker process that does what is no image's work: archives are opened, reports and
large tables built, mails sent.

It looks into the database when a bell rings and every few seconds besides, so a lost bell costs no more than these.
"""

from __future__ import annotations

import os
import threading
import time

import structlog
from flask import Flask, current_app

from app.domain import exports, notices, reports, scratch, unpacking
from app.errors import UnavailableError

log = structlog.get_logger()

UNRUNG_LOOK_SECONDS = 5.0
DATABASE_AWAY_SECONDS = 1.0
DIED = 70
STOP_SECONDS = 25.0


class Builder:
    """One a process; its methods may be called by any thread, and again."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._rung = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name="builder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ring(self) -> None:
        self._rung.set()

    def stop(self) -> None:
        """Ask it to end; what is half built is given back."""
        self._stopping.set()
        self._rung.set()

    def join(self) -> None:
        self._thread.join(STOP_SECONDS)

    def _guarded(self) -> None:
        # Nobody would notice that reports are not built any more: end the process, and let its supervisor start anew.
        try:
            with self._app.app_context():
                self._run()
        except BaseException:
            log.critical("builder died", exc_info=True)
            os._exit(DIED)

    def _run(self) -> None:
        scratch.remove_old()
        while not self._stopping.is_set():
            try:
                if self._build_one():
                    continue
            except UnavailableError:
                log.warning("nothing built", reason="the database is away")
                time.sleep(DATABASE_AWAY_SECONDS)
            self._rung.wait(UNRUNG_LOOK_SECONDS)
            self._rung.clear()

    def _build_one(self) -> bool:
        reports.wake()
        done = unpacking.open_next() or notices.send_next() or reports.build_next(self._stopping.is_set)
        return done or exports.build_next(self._stopping.is_set)


def start() -> None:
    """Start this process's builder."""
    builder = Builder(current_app._get_current_object())  # type: ignore[attr-defined]
    current_app.extensions["builder"] = builder
    builder.start()


def ring() -> None:
    if builder := current_app.extensions.get("builder"):
        builder.ring()


def stop() -> None:
    if builder := current_app.extensions.get("builder"):
        builder.stop()


def join() -> None:
    """Wait until a stopping builder has given back what it holds."""
    if builder := current_app.extensions.get("builder"):
        builder.join()
