"""Commands about the storage: on a host of the service, with its settings and its database."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from app.cli import output
from app.domain import orphans, sharing
from app.errors import SettingError, StorageError, UnavailableError
from app.runtime import create_runtime


@click.command("orphans")
@click.option("--remove", is_flag=True, help="Remove them; the recover process does so once a day by itself.")
def orphans_command(remove: bool) -> None:
    """List stored files that no image names and that are older than FILES_ORPHAN_HOURS."""
    with _service():
        _remove() if remove else _list()


@click.command("adopt-storage")
def adopt_command() -> None:
    """Go on with the storage that is set here: its files were moved, or its mark was lost.

    A host that does not see the mark of the storage does not use it, lest two hosts store files where the other does
    not look.
    """
    with _service():
        sharing.adopt()
    click.echo("this storage is the service's from now on")


@contextmanager
def _service() -> Iterator[None]:
    try:
        with create_runtime().app_context():
            yield
    except (SettingError, StorageError, UnavailableError) as error:
        click.echo(f"imagejobs: {output.escaped(str(error))}", err=True)
        sys.exit(2)


def _remove() -> None:
    click.echo(f"{orphans.remove()} files removed")


def _list() -> None:
    files = size = 0
    for stat in orphans.find():
        click.echo(f"{stat.modified_at:%Y-%m-%d %H:%M} {stat.bytes:>12,} {stat.key}")
        files, size = files + 1, size + stat.bytes
    click.echo(f"{files} files, {size / 1e6:,.1f} MB")
