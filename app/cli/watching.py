"""Following a job to its end, with a progress bar."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from app.cli.services import Service

# A job of seconds is looked at often, one of an hour now and then.
LEAST_PAUSE_SECONDS = 0.2
MOST_PAUSE_SECONDS = 2.0


def follow(service: Service, job_id: int) -> dict[str, Any]:
    """Show the job's progress on standard error until it ends; returns its last status."""
    started = time.monotonic()
    with _progress() as progress:
        task = None
        while True:
            status = service.status(job_id)
            images = status.get("images", {})
            settled = images.get("total", 0) - images.get("open", 0)
            facts = {"failed": images.get("failed", 0), "eta_seconds": status.get("eta_seconds")}
            if task is None:
                # The images that were done before do not count into the rate.
                task = progress.add_task(f"job {job_id}", total=images.get("total"), completed=settled, **facts)
            progress.update(task, completed=settled, **facts)
            if status["status"] != "ongoing":
                return status
            time.sleep(min(MOST_PAUSE_SECONDS, max(LEAST_PAUSE_SECONDS, (time.monotonic() - started) / 20)))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        _Rate(),
        _TimeLeft(),
        console=Console(stderr=True),
        # The bar takes what the facts leave it.
        expand=True,
    )


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{rate:,.0f} images/s")


class _TimeLeft(ProgressColumn):
    """The service's own estimate, which knows the jobs beside this one."""

    def render(self, task: Task) -> Text:
        left = task.fields["eta_seconds"]
        if task.finished:
            return Text("")
        return Text("-:-- left" if left is None else f"{clock(left)} left")


def clock(seconds: float) -> str:
    """``0:07``, ``12:34`` or ``1:02:03``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
