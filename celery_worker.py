"""Where Celery finds the service: ``celery -A celery_worker worker``.

In the pool of threads Celery's time limits do nothing and a warm shutdown waits without bound, so the pump keeps its
own deadlines and is told here when to stop.
"""

from __future__ import annotations

import sys

from celery.signals import worker_init, worker_shutdown, worker_shutting_down
from celery.worker.consumer import Gossip, Mingle

from app import monochrome  # noqa: F401 - before structlog
from app.domain import builder, images, sharing
from app.errors import OtherStorageError, SettingError
from app.extensions import celery, settings
from app.runtime import create_runtime

try:
    flask_app = create_runtime()
except SettingError as error:
    sys.exit(f"imagejobs: {error}")
app = celery
# Workers have nothing to say to each other, and the receiver of their gossip leaves two sockets open each time that the
# broker is lost (celery 5.7). Here and not as options of the command, since everybody would have to know them.
Gossip.compatible_transports = Mingle.compatible_transports = frozenset()
__all__ = ["app", "celery", "flask_app"]


@worker_init.connect
def _start(**_kwargs: object) -> None:
    # Before the broker is there: a worker that hears no bell finds its work all the same.
    with flask_app.app_context():
        try:
            sharing.check_at_start()
        except OtherStorageError as error:
            sys.exit(f"imagejobs: {error.message}")
        if settings.takes_images:
            images.start()
        if settings.builds_reports:
            builder.start(is_alone=not settings.takes_images)


@worker_shutting_down.connect
def _stop(**_kwargs: object) -> None:
    with flask_app.app_context():
        images.stop()
        builder.stop()


@worker_shutdown.connect
def _join(**_kwargs: object) -> None:
    with flask_app.app_context():
        images.join()
        builder.join()
