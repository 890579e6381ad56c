"""Jobs: creating one, whichever door it came in by, and finding them again."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import exists, insert, select
from sqlalchemy.orm import Session

from app import processors, queues
from app.domain import (
    access,
    backlog,
    cursors,
    idempotency,
    outbox,
    totals,
    transactions,
    turns,
    visit_changes,
    webhooks,
)
from app.domain.idempotency import Idempotency
from app.domain.plans import CHUNKS_A_JOB, Plan
from app.domain.plans import NOTHING_ASKED as NOTHING_ASKED
from app.domain.plans import JobOptions as JobOptions
from app.domain.plans import NewImage as NewImage
from app.domain.plans import NewJob as NewJob
from app.domain.plans import NewVisit as NewVisit
from app.domain.webhooks import NewWebhook
from app.errors import InvalidRequestError, NotFoundError, TooManyImagesError
from app.extensions import settings
from app.models import Job, JobState, Store, Visit
from app.sql import db_now

IDS_A_QUERY = 1000
MOST_SHOWN = 60  # characters of a name that is not known


@dataclass(frozen=True, slots=True)
class Created:
    job_id: int
    is_new: bool
    chunks: int = 0
    callback_secret: str | None = None  # where the caller gave an address without one


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs; None does not narrow. Bounds of the creation time are inclusive."""

    state: JobState | None = None
    store_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


def create(new: NewJob, name: Idempotency | None = None) -> Created:
    """Store a job of the caller's with its visits, chunks and images in one transaction, then ring for workers.

    With the ``name`` of an earlier call it returns that call's job. A transaction repeated after a lost COMMIT
    finds its own job by ``submission``. Raises InvalidRequestError for a processor that is not known or a callback_url
    that cannot be called, and TooManyImagesError, ConflictError, QueueFullError, UnavailableError.
    """
    images, most = new.images_total, settings.JOB_MAX_IMAGES
    if images > most:
        raise TooManyImagesError(f"{images} images are more than the {most} that a job may have")
    check(new)
    new = replace(new, processors=known_processors(new.processors))
    submission = uuid.uuid4().hex
    created = idempotency.run(lambda session: _create(session, new, name, submission))
    if created.chunks:
        queues.ring(bells=min(created.chunks, CHUNKS_A_JOB), source=new.source, lane=new.lane)
    if new.callback_url and not new.callback_secret:
        return replace(created, callback_secret=webhooks.callback_secret(created.job_id))
    return created


def _create(session: Session, new: NewJob, name: Idempotency | None, submission: str) -> Created:
    known = _find_created(session, name, submission)
    if known:
        return known
    is_heard = outbox.hears_all(access.current().owner_id, outbox.VISIT_SETTLED)
    now, are_visits_heard = session.execute(select(db_now(), is_heard)).one()
    plan = Plan.of(new, known_stores(session, {visit.store_id for visit in new.visits}))
    connection = session.connection()
    job = plan.job(submission, turns.first_turn(session, access.current().owner_id), now)
    backlog.expect_room(session, job["images_open"], job["owner_id"])
    job_id = connection.execute(insert(Job).values(**job)).lastrowid
    idempotency.remember(session, name, job_id)
    for table, rows in plan.rows(job_id, now):
        connection.execute(insert(table), rows)
    if not all(plan.is_open):
        visit_changes.note_job(session, job_id, visit_changes.ADDED)
    if new.callback_url:
        webhooks.add_callback(session, job_id, NewWebhook(new.callback_url, secret=new.callback_secret))
    if are_visits_heard and not all(plan.is_open):
        outbox.write_visits(session, [(job_id, seq) for seq, is_open in enumerate(plan.is_open) if not is_open])
    if not plan.chunk_starts:  # there was nothing to do
        outbox.write_jobs(session, [job_id])
    totals.add(session, plan.counts())
    return Created(job_id, True, len(plan.chunk_starts))


def _find_created(session: Session, name: Idempotency | None, submission: str) -> Created | None:
    """The job that an earlier run of this transaction, or an earlier request, has made."""
    job = session.execute(select(Job.id, Job.images_open).where(Job.submission == submission)).first()
    if job:
        return Created(job.id, True, chunks=CHUNKS_A_JOB if job.images_open else 0)
    first = idempotency.recall(session, name)
    return Created(first.job_id, False) if first else None


def check(asked: JobOptions | NewJob) -> None:
    """Whether what is asked of a job can be done, before anything is stored. Raises InvalidRequestError."""
    known_processors(asked.processors)
    if asked.callback_url:
        webhooks.check(asked.callback_url, "callback_url")


def known_processors(names: Sequence[str] | None) -> list[str] | None:
    """The names, each once, of which every one is registered. Raises InvalidRequestError."""
    if names is None:
        return None
    if unknown := [name for name in names if name not in processors.BY_NAME]:
        shown = ", ".join(sorted(processors.BY_NAME, key=str.casefold))
        raise InvalidRequestError(f"processors: there is no {unknown[0][:MOST_SHOWN]!r}; known are {shown}")
    return list(dict.fromkeys(names))


def known_stores(session: Session, ids: Iterable[str]) -> set[str]:
    wanted = sorted(ids)
    slices = [wanted[start : start + IDS_A_QUERY] for start in range(0, len(wanted), IDS_A_QUERY)]
    return {known for part in slices for known in session.scalars(select(Store.id).where(Store.id.in_(part)))}


def get(job_id: int) -> Job:
    """One job. Raises NotFoundError."""
    return transactions.read(lambda session: load(session, job_id))


def load(session: Session, job_id: int, *, is_locked: bool = False) -> Job:
    """One job within a transaction, its row locked where asked for.

    Raises NotFoundError, also where it is not the caller's.
    """
    query = select(Job).where(Job.id == job_id, access.is_visible(Job))
    if is_locked:
        query = query.with_for_update()
    job = session.scalars(query).one_or_none() if 0 < job_id <= cursors.MOST_NUMBER else None
    if job is None:
        raise NotFoundError("no such job")
    return job


def find(wanted: JobFilter, *, cursor: str | None, per_page: int) -> tuple[list[Job], str | None]:
    """A page of the caller's jobs, newest first, and the cursor of the next one."""
    conditions = [access.is_visible(Job)]
    if cursor:
        conditions.append(Job.id < cursors.read(cursor, [int])[0])
    if wanted.state:
        conditions.append(Job.state == wanted.state)
    if wanted.store_id:
        conditions.append(exists().where(Visit.job_id == Job.id, Visit.store_id == wanted.store_id))
    if wanted.start:
        conditions.append(Job.created_at >= wanted.start)
    if wanted.end:
        conditions.append(Job.created_at <= wanted.end)
    query = select(Job).where(*conditions).order_by(Job.id.desc()).limit(per_page + 1)
    found = list(transactions.read(lambda session: session.scalars(query).all()))
    page = found[:per_page]
    return page, cursors.write(page[-1].id) if len(found) > per_page else None
