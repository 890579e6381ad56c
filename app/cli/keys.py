"""``imagejobs keys``: API keys, on a host of the service, straight in its database. So the first one is made."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click
from sqlalchemy.exc import DBAPIError

from app import times
from app.cli import output
from app.cli.columns import KEY_CELLS, KEY_TABLE
from app.cli.output import with_forms
from app.domain import keys
from app.domain.access import Scope
from app.domain.keys import DEFAULT_SCOPES, NewKey
from app.errors import ImagejobsError
from app.models import ApiKey
from app.runtime import create_runtime

KEYS_A_PAGE = 1000
LABEL_CHARACTERS = 100


@click.group("keys")
def keys_command() -> None:
    """Make, list and revoke API keys, on a host of the service."""


@keys_command.command("create")
@click.option("--label", default="", help="To know it by.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    default=sorted(scope.value for scope in DEFAULT_SCOPES),
    show_default=True,
    help="What it may do (repeatable); admin includes all, and sees the jobs of everybody.",
)
@click.option("--same-owner-as", metavar="KEY", help="Id or prefix of a key whose jobs it is to see too.")
@click.option("--days", type=click.IntRange(1, 36_500), help="That it is valid; for good unless given.")
def create_command(label: str, scopes: tuple[str, ...], same_owner_as: str | None, days: int | None) -> None:
    """Make a key and print it. It is shown this once."""
    if len(label) > LABEL_CHARACTERS:
        raise click.UsageError(f"--label has more than {LABEL_CHARACTERS} characters")
    new = NewKey(label.strip(), frozenset(map(Scope, scopes)), same_owner_as, days)
    with _database():
        made = keys.create(new)
    click.echo(made.text)
    until = f", until {times.rfc3339(made.key.expires_at)}" if made.key.expires_at else ""
    click.echo(f"key {made.key.id} ({', '.join(made.key.scopes)}){until}; keep it, it is not shown again", err=True)


@keys_command.command("list")
@with_forms
def list_command(form: str | None) -> None:
    """List all keys, newest first."""
    with _database():
        output.write(map(_row, _all()), form, table=KEY_TABLE, cells=KEY_CELLS)


@keys_command.command("revoke")
@click.argument("key")
def revoke_command(key: str) -> None:
    """Have KEY, by its id or its prefix, taken no longer. Its jobs stay."""
    with _database():
        revoked = keys.revoke(key)
    click.echo(output.escaped(f"key {revoked.id} ({revoked.prefix} {revoked.label}".rstrip() + ") is revoked"))


@contextmanager
def _database() -> Iterator[None]:
    try:
        with create_runtime().app_context():
            yield
    except ImagejobsError as error:
        _cannot(str(error))
    except DBAPIError as error:
        _cannot(f"the database refuses: {error.orig}; is it ready (python db_create.py)?")


def _cannot(sentence: str) -> NoReturn:
    click.echo(f"imagejobs: {output.escaped(sentence)}", err=True)
    sys.exit(2)


def _all() -> Iterator[ApiKey]:
    page, cursor = keys.find(per_page=KEYS_A_PAGE)
    yield from page
    while cursor:
        page, cursor = keys.find(cursor=cursor, per_page=KEYS_A_PAGE)
        yield from page


def _row(key: ApiKey) -> dict[str, Any]:
    moments = {name: getattr(key, name) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    shown = {name: value and times.rfc3339(value) for name, value in moments.items()}
    facts = {"id": key.id, "prefix": key.prefix, "owner": key.owner_id, "scopes": key.scopes, "label": key.label}
    return facts | shown
