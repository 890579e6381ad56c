"""The thread of a worker process that does what is no image's work: archives are opened, reports and
large tables built, mails sent. It works beside the pump, or alone in a process that takes no images.

It looks into the database when a bell rings and every few seconds besides, so a lost bell costs no more than these.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial

import structlog
from flask import Flask, current_app
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.domain import exports, notices, reports, scratch, transactions, unpacking, workers
from app.domain.workers import BEAT_SECONDS, Identity
from app.errors import UnavailableError
from app.models import Export, Report, Upload
from app.sql import db_now

log = structlog.get_logger()

UNRUNG_LOOK_SECONDS = 5.0
DATABASE_AWAY_SECONDS = 1.0
DIED = 70
STOP_SECONDS = 25.0


class Builder:
    """One a process; its methods may be called by any thread, and again.

    ``me`` is given where no pump tells the database that this process lives.
    """

    def __init__(self, app: Flask, me: Identity | None) -> None:
        self._app = app
        self._rung = threading.Event()
        self._stopping = threading.Event()
        self._has_ended = threading.Event()
        self._thread = self._new_thread("builder", self._run)
        self._heart = self._new_thread("heart", partial(self._beat, me)) if me else None

    def start(self) -> None:
        self._thread.start()
        if self._heart:
            self._heart.start()

    def ring(self) -> None:
        self._rung.set()

    def stop(self) -> None:
        """Ask it to end; what is half built is given back."""
        self._stopping.set()
        self._rung.set()

    def join(self) -> None:
        self._thread.join(STOP_SECONDS)
        self._has_ended.set()
        if self._heart:
            self._heart.join(DATABASE_AWAY_SECONDS)

    def _new_thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=self._guarded, args=(target,), name=name, daemon=True)

    def _guarded(self, target: Callable[[], None]) -> None:
        # Nobody would notice that reports are not built any more: end the process, and let its supervisor start anew.
        try:
            with self._app.app_context():
                target()
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

    def _beat(self, me: Identity) -> None:
        workers.tell(me)
        while not self._has_ended.wait(BEAT_SECONDS):
            workers.tell(me)
        workers.tell(me, is_last=True)

    def _build_one(self) -> bool:
        reports.wake()
        done = unpacking.open_next() or notices.send_next() or reports.build_next(self._stopping.is_set)
        return done or exports.build_next(self._stopping.is_set)


def start(*, is_alone: bool = False) -> None:
    """Start this process's builder; ``is_alone``: in a process without a pump."""
    me = workers.this_process(slots=0) if is_alone else None
    builder = Builder(current_app._get_current_object(), me)  # type: ignore[attr-defined]
    current_app.extensions["builder"] = builder
    builder.start()


def count_due() -> tuple[int, float]:
    """How many archives, reports, tables and mails wait to be claimed, and the first of them for how many seconds.

    One that was begun and given back, or whose worker died, counts from when it is due again.
    """
    return transactions.read(_count_due)


def _count_due(session: Session) -> tuple[int, float]:
    now = session.scalars(select(db_now())).one()
    found = [
        session.execute(select(func.count(), func.min(table.due_at)).where(table.due_at <= now)).one()
        for table in (Upload, Report, Export)
    ]
    oldest = min((since for _, since in found if since), default=now)
    return sum(count for count, _ in found), (now - oldest).total_seconds()


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
