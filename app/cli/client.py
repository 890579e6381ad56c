"""The client's commands. They exit with 0, with 1 where the job failed, with 2 where nothing could be asked."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

import click

from app import times
from app.cli import columns, output, watching
from app.cli.options import tell
from app.cli.output import with_forms
from app.cli.services import Service, with_service

IMAGES_A_PAGE = 1000
VISITS_A_PAGE = 5000
JOBS_A_PAGE = 100

job_argument = click.argument("job", type=click.IntRange(min=1))


@click.command("submit")
@click.argument("file", type=click.File("rb"))
@click.option("--watch", is_flag=True, help="Follow the job to its end; exit with 1 if it failed.")
@click.option("--idempotency-key", help="Name this submission: the same key never makes a second job.")
@with_service
def submit_command(service: Service, file: BinaryIO, watch: bool, idempotency_key: str | None) -> None:
    """Submit the job in FILE (JSON; - reads standard input) and print its id."""
    job = tell(service.submit(file.read(), idempotency_key=idempotency_key or uuid.uuid4().hex))
    if watch:
        sys.stdout.flush()
        finish(watching.follow(service, job))


@click.command("status")
@job_argument
@click.option("--watch", is_flag=True, help="Follow the job to its end.")
@click.option("--json", "is_json", is_flag=True, help="Print the service's answer.")
@with_service
def status_command(service: Service, job: int, watch: bool, is_json: bool) -> None:
    """Show how far JOB is and which stores failed; exit with 1 if the job failed."""
    finish(watching.follow(service, job) if watch else service.status(job), is_json=is_json)


@click.command("images")
@job_argument
@click.option("--failed", "state", flag_value="failed", help="Only those that failed.")
@click.option("--state", type=click.Choice(["open", "done", "failed", "cancelled"]), help="Only those in this state.")
@click.option("--error-code", help="Only those that failed with this code.")
@with_forms
@with_service
def images_command(service: Service, job: int, state: str | None, error_code: str | None, form: str | None) -> None:
    """List the images of JOB with their results or errors."""
    filters = {"state": state, "error_code": error_code}
    rows = service.rows(f"/api/jobs/{job}/images", per_page=IMAGES_A_PAGE, **filters)
    output.write(rows, form, table=columns.IMAGE_TABLE, cells=columns.IMAGE_CELLS)


@click.command("errors")
@job_argument
@with_forms
@with_service
def errors_command(service: Service, job: int, form: str | None) -> None:
    """Show why images of JOB failed: how many by each error code, and one of them."""
    output.write(service.errors(job), form, table=columns.ERROR_TABLE, cells=columns.ERROR_TABLE)


@click.command("retry")
@job_argument
@click.option("--error-code", "error_codes", multiple=True, help="Only those that failed with this code (repeatable).")
@click.option("--store", "store_ids", multiple=True, help="Only those of this store (repeatable).")
@click.option("--cancelled", is_flag=True, help="Also those that were cancelled.")
@click.option("--watch", is_flag=True, help="Follow the job to its end; exit with 1 if it failed.")
@with_service
def retry_command(
    service: Service,
    job: int,
    error_codes: tuple[str, ...],
    store_ids: tuple[str, ...],
    cancelled: bool,
    watch: bool,
) -> None:
    """Try images of JOB again that failed; those that are good stay as they are."""
    wanted = {"error_codes": error_codes or None, "store_ids": store_ids or None, "cancelled": cancelled}
    done = service.retry(job, wanted)
    click.echo(f"job {job}: {done['reopened']} images are tried again")
    if left := done.get("unknown_store"):
        click.echo(f"  {left} are not: their stores are not in the store master")
    if watch:
        sys.stdout.flush()
        finish(watching.follow(service, job))


@click.command("cancel")
@job_argument
@with_service
def cancel_command(service: Service, job: int) -> None:
    """Stop JOB: open images are cancelled, results that are there stay."""
    for line in _summary(service.cancel(job)):
        click.echo(output.escaped(line))


@click.command("jobs")
@click.option("--state", type=click.Choice(["ongoing", "completed", "failed", "cancelled"]), help="Only in this state.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most jobs to list.")
@with_forms
@with_service
def jobs_command(service: Service, state: str | None, limit: int, form: str | None) -> None:
    """List jobs, newest first."""
    rows = service.rows("/api/jobs", state=state, per_page=min(limit, JOBS_A_PAGE))
    output.write(islice(rows, limit), form, table=columns.JOB_TABLE, cells=columns.JOB_TABLE)


@click.command("visits")
@click.option("--area", help="Only stores of this area.")
@click.option("--store", help="Only this store.")
@click.option("--from", "start", metavar="TIME", help="Earliest visit, as 2020-09-01 or 2020-09-01T08:00:00+05:30.")
@click.option("--to", "end", metavar="TIME", help="Latest visit; a date means to the end of that day.")
@with_forms
@with_service
def visits_command(
    service: Service, area: str | None, store: str | None, start: str | None, end: str | None, form: str | None
) -> None:
    """List the visits whose images all succeeded, by store, area and period (one of them at least)."""
    filters = {"area": area, "storeid": store, "startdate": start, "enddate": end}
    found = service.rows("/api/visits", per_page=VISITS_A_PAGE, **filters)
    output.write(_visits(found), form, table=columns.VISIT_TABLE, cells=columns.VISIT_CELLS)


def _visits(results: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row a visit, out of the groups by store in which they arrive."""
    for store in results:
        for visit in store["data"]:
            yield {name: store.get(name) for name in ("store_id", "area", "store_name")} | visit


def finish(status: dict[str, Any], *, is_json: bool = False) -> None:
    """Print where a job stands and exit with what that means."""
    if is_json:
        click.echo(output.json_text(status))
    else:
        for line in _summary(status):
            click.echo(output.escaped(line))
    sys.exit(1 if status["status"] == "failed" else 0)


def _summary(status: dict[str, Any]) -> Iterator[str]:
    images = status.get("images", {})
    # The state tells a cancelled job from a failed one, which the status does not.
    is_stopping = status["status"] == "ongoing" and status.get("cancelled_at")
    yield f"job {status['job_id']}: {'being cancelled' if is_stopping else status.get('state', status['status'])}"
    counts = [f"{images[name]} {name}" for name in ("done", "failed", "cancelled", "open") if images.get(name)]
    yield f"images: {images.get('total', 0)} ({', '.join(counts) or 'none yet'}){_pace(status)}"
    for entry in status.get("error", []):
        yield f"  {entry['store_id']}: {entry['error']}"


def _pace(status: dict[str, Any]) -> str:
    if not (status.get("started_at") and status.get("finished_at")):
        left = status.get("eta_seconds")
        return "" if left is None else f", {watching.clock(left)} left"
    if status.get("retried_at"):
        return ""  # from the first start to the last end there were days of nothing
    seconds = (times.parse(status["finished_at"]) - times.parse(status["started_at"])).total_seconds()
    settled = status.get("images", {}).get("total", 0)
    return f" in {seconds:.1f} s" + (f", {settled / seconds:,.0f} images/s" if seconds else "")
