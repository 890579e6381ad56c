"""What the demo shows: progress while the job runs, then its status and its visits."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

POLL_SECONDS = 0.2
LINE_SECONDS = 1.0
MOST_ROWS = 15


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} images/s")


def watch(console: Console, poll: Callable[[], dict[str, Any]], *, total: int, seconds: float) -> dict[str, Any]:
    """Show progress until the job is settled; returns its last status. Raises TimeoutError after ``seconds``."""
    columns = (TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    deadline, next_line = time.monotonic() + seconds, time.monotonic()
    with Progress(*columns, console=console, speed_estimate_period=5, disable=not console.is_terminal) as progress:
        task = progress.add_task("Job", total=total)
        while True:
            status = poll()
            settled = total - status["images"]["open"]
            progress.update(task, completed=settled)
            is_over = status["status"] != "ongoing"
            if not console.is_terminal and (is_over or time.monotonic() >= next_line):
                console.print(f"  {settled} of {total} images done")
                next_line = time.monotonic() + LINE_SECONDS
            if is_over:
                return status
            if time.monotonic() > deadline:
                raise TimeoutError(f"{settled} of {total} images done after {seconds:g} s")
            time.sleep(POLL_SECONDS)


def show_status(console: Console, status: dict[str, Any]) -> None:
    """The job's state, its counts, and every store that failed with the reason."""
    images = status["images"]
    console.print(
        f"\nGET /api/status?jobid={status['job_id']}  ->  [bold]{status['status']}[/bold]: "
        f"{images['total']} images, {images['done']} done, {images['failed']} failed, {images['open']} open"
    )
    failed = Table("Store", "Why it failed", title="Failed stores (put there on purpose)", title_justify="left")
    for entry in status.get("error", []):
        failed.add_row(entry["store_id"], Text(entry["error"]))
    console.print(failed)


def show_visits(console: Console, results: list[dict[str, Any]]) -> None:
    """The first visit of each of the first stores, and how many there are."""
    visits = sum(len(store["data"]) for store in results)
    title = f"GET /api/visits  ->  {visits} visits of {len(results)} stores, some of them:"
    table = Table("Area", "Store", "Name", "Date", title=title, title_justify="left")
    for name in ("Images", "Perimeter", "Seconds/image"):
        table.add_column(name, justify="right")
    for store in results[:MOST_ROWS]:
        visit = store["data"][0]
        figures = (f"{visit['images']}", f"{visit['perimeter']:,}", f"{visit['average_seconds']:.2f}")
        table.add_row(store["area"], store["store_id"], Text(store["store_name"]), visit["date"], *figures)
    console.print(table)


def show_rate(console: Console, status: dict[str, Any]) -> None:
    """Images a second, by the service's own times."""
    seconds = (_time(status["finished_at"]) - _time(status["started_at"])).total_seconds()
    images = status["images"]["total"]
    rate = f"[bold]{images / max(seconds, 0.001):,.0f} images a second[/bold]"
    console.print(f"\n{images} images in {seconds:.1f} s: {rate}, a pause of 0.1 to 0.4 s for each image included.")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
