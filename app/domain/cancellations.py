"""Cancelling a job: what is open becomes cancelled, what is settled stays.

The job is marked first, from then on nothing of it is claimed. Its chunks follow in slices, a transaction each, so that
no lock is held long however large the job is. Whatever is marked and not closed is gone on with by the recover loop:
a web process that dies half-way loses nothing. Locks are taken in the order that ``claims`` names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import BigInteger, Integer, and_, func, select, update
from sqlalchemy.orm import Session

from app.domain import feeds, idempotency, jobs, lifecycle, spans, totals, transactions
from app.domain.idempotency import Idempotency
from app.errors import ConflictError
from app.models import Chunk, Image, ImageState, Job, JobState, Visit
from app.sql import db_now, json_rows

log = structlog.get_logger()

# Some 2,000 images: about 30 ms on MariaDB.
CHUNKS_A_SLICE = 20
# A request waits no longer than this for the rest; a job of 200,000 images takes about as long.
REQUEST_SECONDS = 5.0

_sums = json_rows("sums", job_id=BigInteger(), seq=Integer(), cancelled=Integer())
_add_to_visits = (
    update(Visit)
    .where(Visit.job_id == _sums.c.job_id, Visit.seq == _sums.c.seq)
    .values(
        images_open=Visit.images_open - _sums.c.cancelled,
        images_cancelled=Visit.images_cancelled + _sums.c.cancelled,
    )
    .execution_options(synchronize_session=False)
)


class _NotCancelledError(Exception):
    """A retry has opened the job again since the slice was begun."""


def cancel(job_id: int, name: Idempotency | None = None) -> None:
    """Stop a job; where it is large the recover loop may have to finish it. A second call is harmless.

    Raises NotFoundError, and ConflictError where the job has ended already.
    """
    idempotency.run(lambda session: _mark(session, job_id, name))
    _finish(job_id, REQUEST_SECONDS)


def resume() -> None:
    """Finish the cancellations that were begun; two loops at once are harmless."""
    is_begun = and_(Job.state == JobState.ONGOING, Job.cancelled_at.is_not(None))
    for job_id in transactions.read(lambda session: session.scalars(select(Job.id).where(is_begun)).all()):
        _finish(job_id, REQUEST_SECONDS)


def _mark(session: Session, job_id: int, name: Idempotency | None) -> None:
    """Row lock: the job."""
    if idempotency.recall(session, name):
        return  # not again: somebody may have retried the job since
    job = jobs.load(session, job_id, is_locked=True)
    if job.state not in (JobState.ONGOING, JobState.CANCELLED):
        raise ConflictError(f"job {job_id} is {job.state.value}: there is nothing left to cancel")
    if job.state is JobState.ONGOING:
        job.cancelled_at = func.coalesce(Job.cancelled_at, db_now())
    idempotency.remember(session, name, job_id)


def _finish(job_id: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    try:
        while transactions.run(lambda session: _cancel_some(session, job_id)):
            if time.monotonic() > deadline:
                return
    except _NotCancelledError:
        log.info("cancellation ended", job_id=job_id, reason="the job was retried")


def _cancel_some(session: Session, job_id: int) -> bool:
    """Cancel the next slice of a job that is marked; False where nothing is left. Again it finds less, or nothing."""
    is_left = and_(Chunk.job_id == job_id, Chunk.due_at.is_not(None))
    seqs = session.scalars(select(Chunk.seq).where(is_left).order_by(Chunk.seq).limit(CHUNKS_A_SLICE)).all()
    if not seqs:
        return False
    query = select(Chunk.seq, Chunk.first_image, Chunk.images).where(is_left, Chunk.seq.in_(seqs))
    chunks = session.execute(query.order_by(Chunk.seq).with_for_update()).all()
    if chunks:
        # Results of workers that are still at them name the old claim, and are refused.
        session.execute(
            update(Chunk)
            .where(Chunk.job_id == job_id, Chunk.seq.in_([chunk.seq for chunk in chunks]))
            .values(claim=Chunk.claim + 1, due_at=None, unreturned=0)
            .execution_options(synchronize_session=False)
        )
        _cancel_images(session, job_id, chunks)
    return True


def _cancel_images(session: Session, job_id: int, chunks: Sequence[Any]) -> None:
    is_open = and_(spans.is_in(job_id, chunks), Image.state == ImageState.OPEN)
    # Nobody writes to these images meanwhile: who does locks the chunk first.
    feeds.note_open(session, job_id, is_open)
    by_visit = session.execute(select(Image.visit_seq, func.count()).where(is_open).group_by(Image.visit_seq)).all()
    session.execute(
        update(Image)
        .where(is_open)
        .values(state=ImageState.CANCELLED, next_attempt_at=None, settled_at=db_now())
        .execution_options(synchronize_session=False)
    )
    visits = sorted((seq, images) for seq, images in by_visit if seq is not None)
    if visits:
        session.execute(_add_to_visits, {"sums": json.dumps([(job_id, seq, images) for seq, images in visits])})
        lifecycle.settle_visits(session, job_id, [seq for seq, _ in visits])
    _count(session, job_id, sum(images for _, images in by_visit), [seq for seq, _ in visits])


def _count(session: Session, job_id: int, cancelled: int, visits: Sequence[int]) -> None:
    statement = (
        update(Job)
        .where(Job.id == job_id, Job.cancelled_at.is_not(None))
        .values(images_open=Job.images_open - cancelled, images_cancelled=Job.images_cancelled + cancelled)
        .execution_options(synchronize_session=False)
    )
    if not session.execute(statement).rowcount:  # type: ignore[attr-defined]
        raise _NotCancelledError
    if lifecycle.close(session, [job_id], [(job_id, seq) for seq in visits]):
        log.info("job cancelled", job_id=job_id)
    totals.add(session, {(totals.IMAGES_SETTLED, ImageState.CANCELLED.value): cancelled})
