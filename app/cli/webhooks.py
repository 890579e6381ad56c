"""``imagejobs webhooks``: who is told when jobs end, and what was sent to them."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from app.cli import columns, output
from app.cli.output import with_forms
from app.cli.services import CannotError, Service, with_service

ROWS_A_PAGE = 100
EVENTS = ("job.completed", "job.failed", "visit.settled")
TEST_SECONDS = 30.0
LOOK_SECONDS = 0.5


@click.group("webhooks")
def webhooks_command() -> None:
    """Have a service of yours told when jobs end."""


@webhooks_command.command("list")
@click.option("--job", type=click.IntRange(1), help="The callback of this job, in place of those of all jobs.")
@with_forms
@with_service
def list_command(service: Service, job: int | None, form: str | None) -> None:
    """List webhooks, newest first."""
    rows = service.rows("/api/webhooks", job_id=job, per_page=ROWS_A_PAGE)
    output.write(rows, form, table=columns.WEBHOOK_TABLE, cells=columns.WEBHOOK_CELLS)


@webhooks_command.command("add")
@click.argument("address")
@click.option("--event", "events", type=click.Choice(EVENTS), multiple=True, default=EVENTS[:2], show_default=True,
              help="What to tell of (repeatable).")  # fmt: skip
@click.option("--secret", help="What to sign with, whsec_...; one is made unless given.")
@click.option("--description", help="To know it by.")
@with_service
def add_command(
    service: Service, address: str, events: tuple[str, ...], secret: str | None, description: str | None
) -> None:
    """Have messages sent to ADDRESS, and print the secret that they are signed with. It is shown this once."""
    wanted = {"url": address, "events": events, "secret": secret, "description": description}
    made = service.create("webhook_id", "/api/webhooks", wanted)
    click.echo(made["secret"])
    click.echo(f"webhook {made['webhook_id']}; keep the secret, it is not shown again", err=True)


@webhooks_command.command("remove")
@click.argument("webhook", type=click.IntRange(1))
@with_service
def remove_command(service: Service, webhook: int) -> None:
    """Send nothing more to WEBHOOK, and forget it."""
    removed = service.remove("webhook_id", f"/api/webhooks/{webhook}")
    click.echo(output.escaped(f"webhook {webhook} ({removed['url']}) is removed"))


@webhooks_command.command("deliveries")
@click.argument("webhook", type=click.IntRange(1))
@click.option("--state", type=click.Choice(["pending", "delivered", "failed"]), help="Only those in this state.")
@with_forms
@with_service
def deliveries_command(service: Service, webhook: int, state: str | None, form: str | None) -> None:
    """List what was, or is to be, sent to WEBHOOK, newest first."""
    rows = service.rows(f"/api/webhooks/{webhook}/deliveries", state=state, per_page=ROWS_A_PAGE)
    output.write(rows, form, table=columns.DELIVERY_TABLE, cells=columns.DELIVERY_CELLS)


@webhooks_command.command("redeliver")
@click.argument("delivery", type=click.IntRange(1))
@with_service
def redeliver_command(service: Service, delivery: int) -> None:
    """Send DELIVERY once more, and say what came of it; exits with 1 where it did not arrive."""
    before = service.create("delivery_id", f"/api/deliveries/{delivery}/redeliver", {})
    _wait_for_attempt(service, delivery, before["attempts"])


@webhooks_command.command("test")
@click.argument("webhook", type=click.IntRange(1))
@with_service
def test_command(service: Service, webhook: int) -> None:
    """Send a test message to WEBHOOK, and say what came of it; exits with 1 where it did not arrive."""
    made = service.create("delivery_id", f"/api/webhooks/{webhook}/test", {})
    _wait_for_attempt(service, made["delivery_id"], 0)


def _wait_for_attempt(service: Service, delivery: int, attempts: int) -> None:
    deadline = time.monotonic() + TEST_SECONDS
    while True:
        found = service.get("delivery_id", f"/api/deliveries/{delivery}")
        if found["attempts"] > attempts or found["state"] == "failed":
            break
        if time.monotonic() > deadline:
            raise CannotError(
                f"delivery {delivery} was not sent within {TEST_SECONDS:g} s: is `imagejobs deliver` running?"
            )
        time.sleep(LOOK_SECONDS)
    click.echo(output.escaped(f"delivery {delivery}: {_told(found)}"))
    sys.exit(0 if found["state"] == "delivered" else 1)


def _told(delivery: dict[str, Any]) -> str:
    last = delivery["tries"][-1]
    if delivery["state"] == "delivered":
        return f"it arrived, HTTP {last['status']} in {last['seconds']:.2f} s"
    reason = f"{last['error']}: {last['message']}".rstrip(": ")
    return f"it did not arrive ({reason})" + (", it will be tried again" if delivery["next_attempt_at"] else "")
