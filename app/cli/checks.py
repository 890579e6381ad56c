"""Commands that look at a running system, on one of its hosts, and say in sentences what they find."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict

import click
from sqlalchemy.exc import DBAPIError

from app.cli import output
from app.domain import audit, doctor
from app.domain.doctor import Level
from app.errors import SettingError, UnavailableError
from app.runtime import create_runtime

CLEAN, FOUND, COULD_NOT_LOOK = 0, 1, 2


@click.command("audit")
@click.option("--job", "job_id", type=click.IntRange(1), help="Check this job only.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def audit_command(job_id: int | None, is_json: bool) -> None:
    """Check that counters, chunks and images agree, while the service runs or not.

    Exits with 0 where they do, with 1 where they do not, with 2 where the database could not be read.
    """
    started = time.monotonic()
    try:
        with create_runtime().app_context():
            found = audit.run(job_id)
    except (SettingError, UnavailableError, DBAPIError) as error:
        click.echo(f"imagejobs: could not look: {output.escaped(str(error))}", err=True)
        sys.exit(COULD_NOT_LOOK)
    if is_json:
        click.echo(output.json_text(found.as_dict()))
    else:
        for finding in found.findings:
            click.echo(output.escaped(f"{finding.code}: {finding.message}"))
        seconds = time.monotonic() - started
        verdict = f"{len(found.findings)} findings" if found.findings else "all is as it must be"
        click.echo(f"{found.jobs} jobs with {found.images} images read in {seconds:.1f} s: {verdict}")
    sys.exit(FOUND if found.findings else CLEAN)


@click.command("doctor")
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def doctor_command(is_json: bool) -> None:
    """Say how the service is, in sentences: database, broker, workers, waiting work, disk, clock, settings.

    Exits with 0 where nothing is bad, with 1 where something is, with 2 where the database could not be asked.
    """
    answers = []
    try:
        with create_runtime().app_context():
            for answer in doctor.examine():
                answers.append(answer)
                if not is_json:
                    click.echo(output.escaped(f"{answer.level:5} {answer.about}: {answer.sentence}"))
    except SettingError as error:
        click.echo(f"imagejobs: {output.escaped(str(error))}", err=True)
        sys.exit(COULD_NOT_LOOK)
    if is_json:
        click.echo(output.json_text([asdict(answer) for answer in answers]))
    if any(answer.is_unanswered for answer in answers):
        sys.exit(COULD_NOT_LOOK)
    sys.exit(FOUND if any(answer.level is Level.BAD for answer in answers) else CLEAN)
