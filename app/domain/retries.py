"""Retrying a job: images that failed, or were cancelled, are opened again on the same job.

Attempts go on counting up, so a late result of an earlier attempt matches no image, and what workers are doing in the
same chunks meanwhile stays good. All of it is one transaction that holds the job's chunks; locks are taken in the order
that ``claims`` names.
"""

from __future__ import annotations

import json
import uuid
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import BigInteger, Float, Integer, String, and_, case, func, insert, not_, select, update
from sqlalchemy.orm import Session

from app import queues
from app.domain import idempotency, jobs, plans, transactions, turns, visit_changes
from app.domain.idempotency import Idempotency
from app.errors import ConflictError
from app.extensions import settings
from app.models import Chunk, Image, ImageState, Job, JobState, Visit, VisitState
from app.sql import db_now, json_rows

ROWS_A_STATEMENT = 10_000
# Its column ends at 32,767, and a worker must be able to count its attempts.
MOST_ATTEMPTS = 30_000


@dataclass(frozen=True, slots=True)
class RetryFilter:
    """Which images: those that failed, and where asked for those that were cancelled; None does not narrow."""

    error_codes: Collection[str] | None = None
    store_ids: Collection[str] | None = None
    with_cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Reopened:
    """``unknown_store`` images were left as they are: their stores are still not in the store master."""

    job_id: int
    reopened: int
    unknown_store: int


def retry(job_id: int, wanted: RetryFilter, name: Idempotency | None = None) -> Reopened:
    """Open images of a job again and ring for workers; a job that is under way may be retried too.

    A second call finds those images open, and reopens nothing. Raises NotFoundError, and ConflictError while the job
    is being cancelled.
    """
    # Even a request without a name has one here: a transaction repeated after a lost COMMIT finds what it did.
    name = name or Idempotency(uuid.uuid4().hex, "")
    done = idempotency.run(lambda session: _retry(session, job_id, wanted, name))
    if done.reopened:
        queues.ring_all(bells=plans.CHUNKS_A_JOB)
    return done


def preview(job_id: int, wanted: RetryFilter) -> Reopened:
    """What ``retry`` would do now; changes nothing. Raises NotFoundError."""

    def read(session: Session) -> Reopened:
        jobs.load(session, job_id)
        chosen = session.execute(_chosen(job_id, wanted)).all()
        unknown = [image for image in chosen if _is_of_unknown_store(image)]
        known = jobs.known_stores(session, {image.store_id for image in unknown})
        left = sum(image.store_id not in known for image in unknown)
        return Reopened(job_id, len(chosen) - left, left)

    return transactions.read(read)


def _retry(session: Session, job_id: int, wanted: RetryFilter, name: Idempotency) -> Reopened:
    if first := idempotency.recall(session, name):
        return Reopened(first.job_id, **first.answer)
    job = jobs.load(session, job_id)
    chunks = _lock_chunks(session, job_id)
    session.refresh(job)
    chosen = session.execute(_chosen(job_id, wanted)).all()
    known = jobs.known_stores(session, {image.store_id for image in chosen if _is_of_unknown_store(image)})
    images = [image for image in chosen if not _is_of_unknown_store(image) or image.store_id in known]
    if images:
        _reopen(session, job, images, chunks)
    done = Reopened(job_id, len(images), len(chosen) - len(images))
    answer = {"reopened": done.reopened, "unknown_store": done.unknown_store}
    idempotency.remember(session, name, job_id, answer)
    return done


def _lock_chunks(session: Session, job_id: int) -> Sequence[Any]:
    """All of a job's, so that neither a worker nor another retry changes its images until the transaction ends."""
    query = select(Chunk.seq, Chunk.first_image, Chunk.images).where(Chunk.job_id == job_id)
    return session.execute(query.order_by(Chunk.seq).with_for_update()).all()


def _is_of_unknown_store(image: Any) -> bool:
    return bool(image.error_code == plans.UNKNOWN_STORE["error_code"])


def _chosen(job_id: int, wanted: RetryFilter) -> Any:
    states = [ImageState.FAILED, *([ImageState.CANCELLED] if wanted.with_cancelled else [])]
    conditions = [Image.job_id == job_id, Image.state.in_(states), Image.attempts < MOST_ATTEMPTS]
    if wanted.error_codes is not None:
        conditions.append(Image.error_code.in_(wanted.error_codes))
    if wanted.store_ids is not None:
        conditions.append(Visit.store_id.in_(wanted.store_ids))
    visit = and_(Visit.job_id == Image.job_id, Visit.seq == Image.visit_seq)
    return (
        select(Image.seq, Image.visit_seq, Image.state, Image.error_code, Image.seconds, Visit.store_id)
        .outerjoin(Visit, visit)
        .where(*conditions)
        .order_by(Image.seq)
    )


def _reopen(session: Session, job: Job, images: Sequence[Any], chunks: Sequence[Any]) -> None:
    touched, missing = _cover([image.seq for image in images], chunks)
    _make_due(session, job.id, touched)
    _create_chunks(session, job.id, missing, first_seq=chunks[-1].seq + 1 if chunks else 0)
    for rows in _slices((job.id, image.seq) for image in images):
        session.execute(_open_images, {"reopened": rows})
    sums = _sums(images)
    for rows in _slices(_visit_rows(session, job, sums)):
        session.execute(_note_reopened, {"sums": rows})
        session.execute(_reopen_visits, {"sums": rows})
    _reopen_job(session, job, sums)


def _cover(seqs: Sequence[int], chunks: Sequence[Any]) -> tuple[list[int], list[tuple[int, int]]]:
    """The chunks that hold these images, and the stretches (first, count) of those that lie in none.

    No image of such a stretch has ever been open: their stores were unknown. ``seqs`` ascend.
    """
    size = plans.chunk_size(len(seqs))
    by_start = sorted(chunks, key=lambda chunk: chunk.first_image)
    starts = [chunk.first_image for chunk in by_start]
    touched: dict[int, None] = {}
    missing: list[tuple[int, int]] = []
    for seq in seqs:
        place = bisect_right(starts, seq) - 1
        first = missing[-1][0] if missing else -size
        if place >= 0 and seq < starts[place] + by_start[place].images:
            touched[by_start[place].seq] = None
        elif seq < first + size and (place < 0 or starts[place] < first):
            missing[-1] = (first, seq - first + 1)
        else:
            missing.append((seq, 1))
    return sorted(touched), missing


def _make_due(session: Session, job_id: int, seqs: Sequence[int]) -> None:
    """A chunk in which nothing was open is due at once.

    One that a worker holds comes back when it is done, or when its lease ends; one that waits for an attempt is due
    by then at the latest. So nobody's work is taken away, and the two need not be told apart.
    """
    lease_end = db_now(settings.LEASE_SECONDS)
    due_at = case((Chunk.due_at.is_(None), db_now()), (Chunk.due_at > lease_end, lease_end), else_=Chunk.due_at)
    statement = update(Chunk).where(_is_touched).values(due_at=due_at).execution_options(synchronize_session=False)
    for rows in _slices((job_id, seq) for seq in seqs):
        session.execute(statement, {"touched": rows})


def _create_chunks(session: Session, job_id: int, stretches: Sequence[tuple[int, int]], *, first_seq: int) -> None:
    """Raises IntegrityError where another retry was faster; the transaction is then run again."""
    now = session.scalars(select(db_now())).one()
    rows = [
        {"job_id": job_id, "seq": seq, "first_image": first, "images": images, "due_at": now, "claim": 0}
        for seq, (first, images) in enumerate(stretches, first_seq)
    ]
    if rows:
        session.connection().execute(insert(Chunk), rows)


@dataclass(slots=True)
class _Sums:
    """What leaves a visit when its images are opened again."""

    failed: int = 0
    cancelled: int = 0
    seconds: float = 0.0


def _sums(images: Iterable[Any]) -> dict[int | None, _Sums]:
    """By the seq of the visit; None for images without one."""
    sums: defaultdict[int | None, _Sums] = defaultdict(_Sums)
    for image in images:
        of_visit = sums[image.visit_seq]
        of_visit.failed += image.state is ImageState.FAILED
        of_visit.cancelled += image.state is ImageState.CANCELLED
        of_visit.seconds += image.seconds or 0
    return sums


def _visit_rows(session: Session, job: Job, sums: dict[int | None, _Sums]) -> Iterator[tuple[Any, ...]]:
    is_any_left = job.images_failed > sum(each.failed for each in sums.values())
    errors = _first_errors(session, job.id) if is_any_left else {}
    for seq in sorted(seq for seq in sums if seq is not None):
        of_visit = sums[seq]
        yield (job.id, seq, of_visit.failed, of_visit.cancelled, of_visit.seconds, *errors.get(seq, (None, None)))


def _first_errors(session: Session, job_id: int) -> dict[int, tuple[str | None, str | None]]:
    """By visit, what its first image that is still failed says."""
    is_failed = and_(Image.job_id == job_id, Image.state == ImageState.FAILED, Image.visit_seq.is_not(None))
    first = select(func.min(Image.seq).label("seq")).where(is_failed).group_by(Image.visit_seq).subquery()
    query = select(Image.visit_seq, Image.error_code, Image.error_message).join(first, first.c.seq == Image.seq)
    return {row.visit_seq: (row.error_code, row.error_message) for row in session.execute(query.where(is_failed))}


def _reopen_job(session: Session, job: Job, sums: dict[int | None, _Sums]) -> None:
    """Raises ConflictError where the job is being cancelled; only here is its row locked."""
    failed = sum(each.failed for each in sums.values())
    cancelled = sum(each.cancelled for each in sums.values())
    is_being_cancelled = and_(Job.state == JobState.ONGOING, Job.cancelled_at.is_not(None))
    statement = (
        update(Job)
        .where(Job.id == job.id, not_(is_being_cancelled))
        .values(
            state=JobState.ONGOING,
            # A job that comes back has its turn like a new one: it need not be given what others had meanwhile.
            turn=Job.turn if job.state is JobState.ONGOING else turns.first_turn(session, job.owner_id),
            parked_until=None,
            images_open=Job.images_open + failed + cancelled,
            images_failed=Job.images_failed - failed,
            images_cancelled=Job.images_cancelled - cancelled,
            finished_at=None,
            cancelled_at=None,
            retried_at=db_now(),
        )
        .execution_options(synchronize_session=False)
    )
    if not session.execute(statement).rowcount:  # type: ignore[attr-defined]
        raise ConflictError(f"job {job.id} is being cancelled: retry it once that is done")


def _slices(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The rows as parameters of bounded size."""
    left = iter(rows)
    while part := list(islice(left, ROWS_A_STATEMENT)):
        yield json.dumps(part)


_touched = json_rows("touched", job_id=BigInteger(), seq=Integer())
_is_touched = and_(Chunk.job_id == _touched.c.job_id, Chunk.seq == _touched.c.seq)

_reopened = json_rows("reopened", job_id=BigInteger(), seq=Integer())
RESULTS = ("error_code", "error_message", "width", "height", "perimeter", "format", "bytes", "seconds")
_open_images = (
    update(Image)
    .where(Image.job_id == _reopened.c.job_id, Image.seq == _reopened.c.seq)
    .values(
        state=ImageState.OPEN,
        attempts_before=Image.attempts,
        next_attempt_at=None,
        settled_at=None,
        **dict.fromkeys(RESULTS),
    )
    .execution_options(synchronize_session=False)
)

_visit_sums = json_rows(
    "sums",
    job_id=BigInteger(),
    seq=Integer(),
    failed=Integer(),
    cancelled=Integer(),
    seconds=Float(53),
    error_code=String(32),
    error_message=String(300),
)
_is_settled = Visit.state != VisitState.OPEN
_note_reopened = visit_changes.insertion(visit_changes.TAKEN_AWAY, _visit_sums, _is_settled)
_reopen_visits = (
    update(Visit)
    .where(Visit.job_id == _visit_sums.c.job_id, Visit.seq == _visit_sums.c.seq)
    .values(
        state=VisitState.OPEN,
        images_open=Visit.images_open + _visit_sums.c.failed + _visit_sums.c.cancelled,
        images_failed=Visit.images_failed - _visit_sums.c.failed,
        images_cancelled=Visit.images_cancelled - _visit_sums.c.cancelled,
        seconds=Visit.seconds - _visit_sums.c.seconds,
        error_code=_visit_sums.c.error_code,
        error_message=_visit_sums.c.error_message,
        settled_at=None,
    )
    .execution_options(synchronize_session=False)
)
