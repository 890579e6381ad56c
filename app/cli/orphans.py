"""``imagejobs orphans``: on a host of the service, with its settings, its database and its storage."""

from __future__ import annotations

import sys

import click

from app.domain import orphans
from app.errors import SettingError, StorageError, UnavailableError
from app.factory import create_app


@click.command("orphans")
@click.option("--remove", is_flag=True, help="Remove them; the recover process does so once a day by itself.")
def orphans_command(remove: bool) -> None:
    """List stored files that no image names and that are older than FILES_ORPHAN_HOURS."""
    try:
        with create_app().app_context():
            _remove() if remove else _list()
    except (SettingError, StorageError, UnavailableError) as error:
        click.echo(f"imagejobs: {error}", err=True)
        sys.exit(2)


def _remove() -> None:
    click.echo(f"{orphans.remove()} files removed")


def _list() -> None:
    files = size = 0
    for stat in orphans.find():
        click.echo(f"{stat.modified_at:%Y-%m-%d %H:%M} {stat.bytes:>12,} {stat.key}")
        files, size = files + 1, size + stat.bytes
    click.echo(f"{files} files, {size / 1e6:,.1f} MB")
