"""``imagejobs recount``: the sums of visits, put right by the visits themselves."""

from __future__ import annotations

import sys

import click
from sqlalchemy.exc import DBAPIError

from app.cli import output
from app.domain import visit_sums
from app.errors import SettingError, UnavailableError
from app.runtime import create_runtime

FAILED = 2


@click.command("recount")
def recount_command() -> None:
    """Put right the sums of visits that the pages show, where `imagejobs audit` says they are not what the visits are.

    The service may run meanwhile; run one recount at a time. Exits with 0, with 2 where the database could not be read.
    """
    try:
        with create_runtime().app_context():
            mended = visit_sums.recount()
    except (SettingError, UnavailableError, DBAPIError) as error:
        click.echo(f"imagejobs: {output.escaped(str(error))}", err=True)
        sys.exit(FAILED)
    click.echo(f"{mended} sums put right" if mended else "every sum is what its visits add up to")
