"""Celery tasks: each takes ids, calls one domain function."""

from __future__ import annotations

from celery import shared_task

from app import queues
from app.domain import builder, images


@shared_task(name=queues.WORK)
def work_on_images() -> None:
    """Work on whatever is due for one slice of time, then ring for the next; go on without a bell where it is away."""
    while images.work() and not queues.ring_again():
        pass


@shared_task(name=queues.BUILD)
def build_reports() -> None:
    """Wake this process's builder."""
    builder.ring()
