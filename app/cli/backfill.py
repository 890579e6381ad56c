"""``imagejobs backfill``: a processor over images that are stored."""

from __future__ import annotations

import os
import sys

import click

from app.cli import output
from app.domain import backfills
from app.domain.backfills import Tally
from app.errors import ImagejobsError, SettingError
from app.factory import create_app
from config import Settings

DONE, SOME_UNREAD, FAILED = 0, 1, 2
NICENESS = 10  # whatever else runs on this host goes first


@click.command("backfill")
@click.option("--processor", "name", required=True, help="Its NAME.")
@click.option("--job", "job_id", type=click.IntRange(1), help="Only images of this job.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Children that decode.")
@click.option("--errors", "with_errors", is_flag=True, help="Also images on which this very version failed.")
def backfill_command(name: str, job_id: int | None, processes: int, with_errors: bool) -> None:
    """Run a processor on stored images that lack its present version, job by job, at low priority.

    It can be stopped at any time and run again: it goes on with what is left. Exits with 0 where every image has a
    result (or an error of the processor), with 1 where some files could not be read, with 2 where it could not go on.
    """
    os.nice(NICENESS)
    total = Tally()
    try:
        with create_app(Settings.from_env(DECODE_PROCESSES=processes)).app_context():
            for job, tally in backfills.run(name, job_id=job_id, with_errors=with_errors):
                click.echo(f"job {job}: {_shown(tally)}")
                total += tally
    except (SettingError, ImagejobsError) as error:
        click.echo(f"imagejobs: {output.escaped(str(error))}", err=True)
        sys.exit(FAILED)
    click.echo(f"all: {_shown(total)}")
    sys.exit(SOME_UNREAD if total.unread else DONE)


def _shown(tally: Tally) -> str:
    parts = [f"{tally.done} done", f"{tally.failed} failed", f"{tally.already} had it already"]
    return ", ".join([*parts, *([f"{tally.unread} could not be read"] if tally.unread else [])])
