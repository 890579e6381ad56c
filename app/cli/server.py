"""Commands that run on a host of the service, with its settings and its database."""

from __future__ import annotations

import signal
import sys
import threading

import click

from app.domain import recover
from app.errors import SettingError
from app.factory import create_app


@click.command("recover")
def recover_command() -> None:
    """Find dropped work and ring for it, until stopped (one such process is enough; two do no harm)."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        app = create_app()
    except SettingError as error:
        sys.exit(f"imagejobs: {error}")
    with app.app_context():
        recover.run(stop)
