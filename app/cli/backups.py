"""``imagejobs backup`` and ``imagejobs restore``, on a host of the service."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from flask import Flask

from app.domain import backups
from app.errors import ImagejobsError, SettingError
from app.runtime import create_runtime


@click.command("backup")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--keep", type=click.IntRange(1), help="Delete all but so many of the newest backups afterwards.")
def backup_command(folder: Path, keep: int | None) -> None:
    """Copy the database and all stored files into a new folder below FOLDER; the service goes on meanwhile."""
    with _app().app_context():
        try:
            target, manifest = backups.save(folder)
            if keep:
                backups.forget(folder, keep)
        except ImagejobsError as error:
            sys.exit(f"imagejobs: {error}")
    rows = sum(manifest.rows.values())
    click.echo(f"{target}: {manifest.rows['jobs']} jobs, {rows} rows, {manifest.files} files")
    if manifest.files_missing:
        sys.exit(f"imagejobs: {manifest.files_missing} files that rows name are not in the storage")


@click.command("restore")
@click.argument("backup", type=click.Path(exists=True, file_okay=False, path_type=Path))
def restore_command(backup: Path) -> None:
    """Fill an empty database (DATABASE_URL) and storage (STORAGE_URL) from BACKUP, a folder that backup made."""
    with _app().app_context():
        try:
            manifest = backups.restore(backup)
        except ImagejobsError as error:
            sys.exit(f"imagejobs: {error}")
    click.echo(f"restored {manifest.rows['jobs']} jobs, {sum(manifest.rows.values())} rows, as of {manifest.taken_at}")
    click.echo("Next: imagejobs audit")


def _app() -> Flask:
    try:
        return create_runtime()
    except SettingError as error:
        sys.exit(f"imagejobs: {error}")
