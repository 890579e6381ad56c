"""Commands that run on a host of the service, with its settings and its database."""

from __future__ import annotations

import signal
import sys
import threading

import click
import structlog
from flask import Flask

from app import memory
from app.domain import purges, recover, sender
from app.errors import SettingError, StorageError, UnavailableError
from app.runtime import create_runtime

log = structlog.get_logger()
HOUR_SECONDS = 3600.0


@click.command("recover")
def recover_command() -> None:
    """Find dropped work and ring for it, until stopped (one such process is enough; two do no harm)."""
    stop = _stopped_by_signals()
    with _staying_app().app_context():
        recover.run(stop)


@click.command("deliver")
def deliver_command() -> None:
    """Send webhooks, until stopped (one such process is enough; two share the work)."""
    stop = _stopped_by_signals()
    with _staying_app().app_context():
        sender.run(stop)


@click.command("purge")
@click.option("--days", type=click.FloatRange(0, min_open=True), help="In place of RETENTION_DAYS.")
@click.option(
    "--every", type=click.FloatRange(0, min_open=True), metavar="HOURS", help="Again and again, until stopped."
)
@click.option("--dry-run", is_flag=True, help="List what would be deleted, and delete nothing.")
def purge_command(days: float | None, every: float | None, dry_run: bool) -> None:
    """Delete jobs that ended more than RETENTION_DAYS ago, with their images, results and files."""
    app = _app()
    days = days or app.config["SETTINGS"].RETENTION_DAYS
    if not days:
        click.echo("RETENTION_DAYS is not set: everything is kept")
    with app.app_context():
        if dry_run:
            _list_old(days)
        elif every:
            _purge_every(every * HOUR_SECONDS, days)
        elif days:
            try:
                click.echo(f"jobs purged: {purges.purge(days)}")
            except (UnavailableError, StorageError) as error:
                sys.exit(f"imagejobs: {error}")


def _list_old(days: float) -> None:
    count = 0
    try:
        for job in purges.find(days) if days else ():
            count += 1
            click.echo(f"job {job.id}: {job.source}, ended {job.finished_at:%Y-%m-%d %H:%M}, {job.images_total} images")
    except UnavailableError as error:
        sys.exit(f"imagejobs: {error}")
    click.echo(f"jobs that would be purged: {count}")


def _purge_every(seconds: float, days: float) -> None:
    stop = _stopped_by_signals()
    while True:
        try:
            if days:
                purges.purge(days)
        except (UnavailableError, StorageError) as error:
            log.warning("not purged", reason=str(error))
        if stop.wait(seconds):
            return


def _staying_app() -> Flask:
    memory.share_arenas()
    return _app()


def _app() -> Flask:
    try:
        return create_runtime()
    except SettingError as error:
        sys.exit(f"imagejobs: {error}")


def _stopped_by_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
