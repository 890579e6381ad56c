"""What may be asked of a job, whichever command makes it, and what is said when it was made."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import click

from app.cli import output
from app.cli.services import Created

PRIORITY_MOST = 9


def with_job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that every door takes, as ``asked``: fields of the HTTP interface in text."""

    @click.option("--priority", type=click.IntRange(0, PRIORITY_MOST),
                  help="Each step doubles the job's share of the workers; 5 unless given.")  # fmt: skip
    @click.option("--metadata", metavar="JSON", callback=_object, help="An object of yours, given back with the job.")
    @click.option(
        "--callback-url", metavar="URL", help="Is told when the job ends, signed with a secret that is printed."
    )
    @functools.wraps(command)
    def with_options(
        *arguments: Any, priority: int | None, metadata: str | None, callback_url: str | None, **options: Any
    ) -> None:
        given = {"priority": priority, "metadata": metadata, "callback_url": callback_url}
        asked = {name: str(value) for name, value in given.items() if value is not None}
        command(*arguments, asked=asked, **options)

    return with_options


def _object(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """The text as it was given, by which a second call is known; refused here, before anything is sent."""
    try:
        is_object = text is None or isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise click.BadParameter("""not an object in JSON, like '{"tour": 7}'""")
    return text


def tell(created: Created) -> int:
    """Print the id of a job that was made, and beside it, on standard error, the secret of its callback; the id."""
    click.echo(created.job_id)
    if created.callback_secret:
        told = f"job {created.job_id}: its callback is signed with the secret {created.callback_secret}"
        click.echo(output.escaped(told), err=True)
    return created.job_id
