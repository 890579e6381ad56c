"""``imagejobs results``: the results of a whole job, into a file or onto standard output."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import click

from app.cli.services import CannotError, Service, with_service

FORMATS = ("csv", "json", "jsonl", "parquet", "coco", "megadetector")
BOXES = ("coco", "megadetector")


@click.command("results")
@click.argument("job", type=click.IntRange(min=1))
@click.option("--format", "form", type=click.Choice(FORMATS), help="By default what FILE ends with, else csv.")
@click.option("-o", "--output", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@click.option("--failed", "state", flag_value="failed", help="Only images that failed.")
@click.option("--state", type=click.Choice(["open", "done", "failed", "cancelled"]), help="Only those in this state.")
@click.option("--error-code", help="Only those that failed with this code.")
@click.option("--separator", type=click.Choice(["comma", "semicolon", "tab"]), help="Between the cells of CSV.")
@with_service
def results_command(service: Service, job: int, form: str | None, file: Path | None, **filters: Any) -> None:
    """Save all that is known of the images of JOB.

    FILE is there once it is whole, or not at all. CSV is made for spreadsheets; programs read jsonl, an object a line,
    or parquet.
    """
    form = form or _format_of(file)
    if filters["separator"] and form != "csv":
        raise click.UsageError("--separator is for CSV")
    path = f"/api/jobs/{job}/results.{f'{form}.json' if form in BOXES else form}"
    if file is None:
        if sys.stdout.isatty():  # what the images' names hold would act there
            raise click.UsageError("name a file with -o, or use a pipe; `imagejobs images` is for terminals")
        service.save(path, sys.stdout.buffer, is_rewindable=False, **filters)
        return
    with _replaced(file) as whole:
        service.save(path, whole, is_rewindable=_is_regular(whole), **filters)


def _format_of(file: Path | None) -> str:
    """``boxes.coco.json`` is coco, ``boxes.json`` is json."""
    parts = file.name.lower().split(".") if file else []
    told = parts[-2] if len(parts) > 2 and parts[-1] == "json" and parts[-2] in BOXES else parts[-1] if parts else ""
    return told if told in FORMATS else "csv"


def _is_regular(file: BinaryIO) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


@contextmanager
def _replaced(file: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of ``file`` at the end of the block, and is gone if the block fails."""
    target = file.resolve()  # of a link the file behind it is replaced, not the link
    try:
        if target.exists() and not target.is_file():  # /dev/null, a named pipe
            with target.open("wb") as special:
                yield special
            return
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with part.open("xb") as whole:
                yield whole
                whole.flush()
                os.fsync(whole.fileno())
            part.replace(target)
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
    except OSError as error:
        raise CannotError(f"{file} cannot be written: {error.strerror or error}") from error
