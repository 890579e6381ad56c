"""Jobs: creating one, whichever door it came in by, and finding them again."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import exists, func, insert, select
from sqlalchemy.orm import Session

from app import queues
from app.domain import cursors, idempotency, transactions
from app.domain.claims import PRIORITY_NORMAL
from app.domain.idempotency import Idempotency
from app.errors import NotFoundError, TooManyImagesError
from app.extensions import settings
from app.models import (
    Chunk,
    Image,
    ImageState,
    Job,
    JobSource,
    JobState,
    Store,
    Visit,
    VisitState,
)
from app.sql import db_now

# A job comes in about so many pieces, so that every worker gets one; each is worth a claim of its own.
CHUNKS_A_JOB = 16
LEAST_CHUNK = 10
IDS_A_QUERY = 1000
UNKNOWN_STORE = {"error_code": "unknown_store", "error_message": "not in the store master"}


@dataclass(frozen=True, slots=True)
class NewVisit:
    store_id: str
    visited_at: datetime
    visited_as_sent: str
    urls: Sequence[str]


@dataclass(frozen=True, slots=True)
class NewJob:
    source: JobSource
    visits: Sequence[NewVisit]
    priority: int = PRIORITY_NORMAL
    client_metadata: dict[str, Any] | None = None
    owner_id: int | None = None


@dataclass(frozen=True, slots=True)
class Created:
    job_id: int
    is_new: bool
    chunks: int = 0


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs; None does not narrow. Bounds of the creation time are inclusive."""

    state: JobState | None = None
    store_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


def create(new: NewJob, name: Idempotency | None = None) -> Created:
    """Store a job with its visits, chunks and images in one transaction, then ring for workers.

    With the ``name`` of an earlier call it returns that call's job. A transaction repeated after a lost COMMIT
    finds its own job by ``submission``. Raises TooManyImagesError, ConflictError, UnavailableError.
    """
    images = sum(len(visit.urls) for visit in new.visits)
    if images > settings.JOB_MAX_IMAGES:
        raise TooManyImagesError(f"{images} images are more than the {settings.JOB_MAX_IMAGES} that a job may have")
    submission = uuid.uuid4().hex
    created = idempotency.run(lambda session: _create(session, new, name, submission))
    if created.chunks:
        queues.ring(bells=min(created.chunks, CHUNKS_A_JOB))
    return created


def _create(session: Session, new: NewJob, name: Idempotency | None, submission: str) -> Created:
    known = _find_created(session, name, submission)
    if known:
        return known
    now = session.scalars(select(db_now())).one()
    plan = _Plan.of(new, known_stores(session, {visit.store_id for visit in new.visits}))
    connection = session.connection()
    job_id = connection.execute(insert(Job).values(**plan.job(session, submission, now))).lastrowid
    idempotency.remember(session, name, job_id)
    for table, rows in plan.rows(job_id, now):
        if rows:
            connection.execute(insert(table), rows)
    return Created(job_id, True, len(plan.chunk_starts))


def _find_created(session: Session, name: Idempotency | None, submission: str) -> Created | None:
    """The job that an earlier run of this transaction, or an earlier request, has made."""
    job = session.execute(select(Job.id, Job.images_open).where(Job.submission == submission)).first()
    if job:
        return Created(job.id, True, chunks=CHUNKS_A_JOB if job.images_open else 0)
    first = idempotency.recall(session, name)
    return Created(first.job_id, False) if first else None


def known_stores(session: Session, ids: Iterable[str]) -> set[str]:
    wanted = sorted(ids)
    slices = [wanted[start : start + IDS_A_QUERY] for start in range(0, len(wanted), IDS_A_QUERY)]
    return {known for part in slices for known in session.scalars(select(Store.id).where(Store.id.in_(part)))}


@dataclass(frozen=True, slots=True)
class _Plan:
    """The rows of a job that is about to be created."""

    new: NewJob
    stores: set[str]
    images: list[tuple[int, str]]  # by seq, in the order as sent: the seq of the visit, and the URL
    is_open: list[bool]  # by the seq of the visit: its store is known
    chunk_starts: list[int]
    chunk_size: int

    @classmethod
    def of(cls, new: NewJob, stores: set[str]) -> _Plan:
        images = [(seq, url) for seq, visit in enumerate(new.visits) for url in visit.urls]
        is_open = [visit.store_id in stores for visit in new.visits]
        open_images = [seq for seq, (visit_seq, _) in enumerate(images) if is_open[visit_seq]]
        size = chunk_size(len(open_images))
        # Chunks are equal stretches of the images as sent; one that holds images of unknown stores only has no work.
        starts = sorted({seq - seq % size for seq in open_images})
        return cls(new, stores, images, is_open, starts, size)

    def job(self, session: Session, submission: str, now: datetime) -> dict[str, Any]:
        images_open = sum(self.is_open[visit_seq] for visit_seq, _ in self.images)
        row: dict[str, Any] = {
            "submission": submission,
            "source": self.new.source,
            "owner_id": self.new.owner_id,
            "state": JobState.ONGOING if images_open else JobState.FAILED,
            "priority": self.new.priority,
            "turn": first_turn(session),
            "visits_total": len(self.new.visits),
            "images_total": len(self.images),
            "images_open": images_open,
            "images_done": 0,
            "images_failed": len(self.images) - images_open,
            "images_cancelled": 0,
            "created_at": now,
            "finished_at": None if images_open else now,
        }
        if self.new.client_metadata is not None:  # a None would be stored as JSON's null
            row["client_metadata"] = self.new.client_metadata
        return row

    def rows(self, job_id: int, now: datetime) -> list[tuple[Any, list[dict[str, Any]]]]:
        """What goes into the other tables; rows of one list have the same columns."""
        seqs = range(len(self.images))
        return [
            (Visit.__table__, [self._visit(job_id, seq, now) for seq in range(len(self.new.visits))]),
            (Chunk.__table__, [self._chunk(job_id, seq, now) for seq in range(len(self.chunk_starts))]),
            (Image.__table__, [self._image(job_id, seq) for seq in seqs if self.is_open[self.images[seq][0]]]),
            (
                Image.__table__,
                [
                    self._image(job_id, seq) | UNKNOWN_STORE | {"state": ImageState.FAILED, "settled_at": now}
                    for seq in seqs
                    if not self.is_open[self.images[seq][0]]
                ],
            ),
        ]

    def _visit(self, job_id: int, seq: int, now: datetime) -> dict[str, Any]:
        visit, is_open = self.new.visits[seq], self.is_open[seq]
        row = {
            "job_id": job_id,
            "seq": seq,
            "store_id": visit.store_id,
            "visited_at": visit.visited_at,
            "visited_as_sent": visit.visited_as_sent,
            "state": VisitState.OPEN if is_open else VisitState.FAILED,
            "images_total": len(visit.urls),
            "images_open": len(visit.urls) if is_open else 0,
            "images_failed": 0 if is_open else len(visit.urls),
            "images_cancelled": 0,
            "perimeter": 0,
            "seconds": 0.0,
            "settled_at": None if is_open else now,
            "version": 0 if is_open else 1,
        }
        return row | (dict.fromkeys(UNKNOWN_STORE) if is_open else UNKNOWN_STORE)

    def _chunk(self, job_id: int, seq: int, now: datetime) -> dict[str, Any]:
        first = self.chunk_starts[seq]
        images = min(self.chunk_size, len(self.images) - first)
        return {"job_id": job_id, "seq": seq, "first_image": first, "images": images, "due_at": now, "claim": 0}

    def _image(self, job_id: int, seq: int) -> dict[str, Any]:
        visit_seq, url = self.images[seq]
        return {
            "job_id": job_id,
            "seq": seq,
            "visit_seq": visit_seq,
            "url": url,
            "state": ImageState.OPEN,
            "attempts": 0,
        }


def chunk_size(images: int) -> int:
    """How many images a chunk has where so many are to be worked on."""
    return min(settings.CHUNK_SIZE, max(LEAST_CHUNK, images // CHUNKS_A_JOB))


def first_turn(session: Session) -> int:
    """Ahead of the job that has waited longest: a new job need not catch up on what others were given before it."""
    least = session.scalar(select(func.min(Job.turn)).where(Job.state == JobState.ONGOING))
    return 0 if least is None else least - 1


def get(job_id: int) -> Job:
    """One job. Raises NotFoundError."""
    return transactions.read(lambda session: load(session, job_id))


def load(session: Session, job_id: int, *, is_locked: bool = False) -> Job:
    """One job within a transaction, its row locked where asked for. Raises NotFoundError."""
    job = session.get(Job, job_id, with_for_update=is_locked) if 0 < job_id <= cursors.MOST_NUMBER else None
    if job is None:
        raise NotFoundError("no such job")
    return job


def find(wanted: JobFilter, *, cursor: str | None, per_page: int) -> tuple[list[Job], str | None]:
    """A page of jobs, newest first, and the cursor of the next one."""
    conditions = []
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
