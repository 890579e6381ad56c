"""The control room: is it moving, and where is it stuck."""

from __future__ import annotations

import time

from flask import Response

from app.domain import doctor, figures, health, overviews, troubles, workers
from app.domain.doctor import Level
from app.domain.totals import IMAGE_ERRORS, IMAGE_RETRIES
from app.extensions import settings
from app.web.auth import needs
from app.web.pages.base import blueprint
from app.web.rendering import page

HOSTS_SHOWN = 20
# Beats come every five seconds; a worker that holds images and wrote nothing for so long is worth a look.
SLOW_SECONDS = 60.0
LONG_DUE_SECONDS = 60.0


@blueprint.get("/control", endpoint="control")
@needs("admin")
def get_control() -> Response:
    started = time.monotonic()
    health.check_database()
    database_seconds = time.monotonic() - started
    started = time.monotonic()
    queues = figures.queue_lengths()
    broker_seconds = time.monotonic() - started
    found = figures.read()
    return page(
        "control/control.html",
        fragment="control/_control.html",
        section="pages.control",
        figures=found,
        now=overviews.now(),
        workers=workers.find(),
        queues=queues,
        database_seconds=database_seconds,
        broker_seconds=broker_seconds,
        errors=sorted(found.totals.get(IMAGE_ERRORS, {}).items(), key=lambda each: -each[1])[:HOSTS_SHOWN],
        retries=found.totals.get(IMAGE_RETRIES, {}),
        slow_seconds=SLOW_SECONDS,
        long_due_seconds=LONG_DUE_SECONDS,
        flower_url=settings.FLOWER_URL,
    )


@blueprint.get("/control/findings", endpoint="control_findings")
@needs("admin")
def get_findings() -> Response:
    """What ``imagejobs doctor`` says, and which hosts make trouble; asked for less often than the rest."""
    answers = list(doctor.examine())
    worst = max(answers, key=lambda each: list(Level).index(each.level), default=None)
    return page(
        "control/_findings.html",
        answers=sorted(answers, key=lambda each: -list(Level).index(each.level)),
        worst=worst.level if worst else Level.FINE,
        troubles=troubles.find(),
        most=HOSTS_SHOWN,
    )
