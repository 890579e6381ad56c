"""From claimed to closed: the books of a job.

The last open image of a visit settles it, the last of a job closes it, in the transaction that writes the image.
Locks are taken in the order that ``claims`` names.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Float, Integer, String, and_, case, func, select, update
from sqlalchemy.orm import Session

from app.domain import chunk_leases, feeds, outbox, settling, totals, transactions, turns, visit_changes
from app.domain.outcomes import Outcome
from app.domain.works import ChunkLease
from app.models import ImageState, Job, JobState, Visit, VisitState
from app.sql import db_now, json_rows


@dataclass(slots=True)
class _Sums:
    """What a batch adds to one visit."""

    settled: int = 0
    failed: int = 0
    perimeter: int = 0
    seconds: float = 0.0
    first_error: tuple[int, str | None, str | None] | None = None

    def add(self, outcome: Outcome) -> None:
        self.settled += 1
        self.perimeter += outcome.perimeter or 0
        self.seconds += outcome.seconds or 0
        if outcome.state is ImageState.FAILED:
            self.failed += 1
            error = (outcome.work.seq, outcome.error_code, outcome.error_message)
            self.first_error = min(self.first_error or error, error, key=lambda known: known[0])

    def as_visit_row(self, job_id: int, seq: int) -> tuple[object, ...]:
        _, code, message = self.first_error or (0, None, None)
        return (job_id, seq, self.settled, self.failed, self.perimeter, self.seconds, code, message)


_visit_sums = json_rows(
    "sums",
    job_id=BigInteger(),
    seq=Integer(),
    settled=Integer(),
    failed=Integer(),
    perimeter=BigInteger(),
    seconds=Float(53),
    error_code=String(32),
    error_message=String(300),
)
_is_summed = and_(Visit.job_id == _visit_sums.c.job_id, Visit.seq == _visit_sums.c.seq)
_add_to_visits = (
    update(Visit)
    .where(_is_summed)
    .values(
        images_open=Visit.images_open - _visit_sums.c.settled,
        images_failed=Visit.images_failed + _visit_sums.c.failed,
        perimeter=Visit.perimeter + _visit_sums.c.perimeter,
        seconds=Visit.seconds + _visit_sums.c.seconds,
        error_code=func.coalesce(Visit.error_code, _visit_sums.c.error_code),
        error_message=func.coalesce(Visit.error_message, _visit_sums.c.error_message),
    )
    .execution_options(synchronize_session=False)
)
_is_ending = and_(Visit.images_open == 0, Visit.state == VisitState.OPEN)
_end_state = case(
    (Visit.images_failed > 0, VisitState.FAILED.value),
    (Visit.images_cancelled > 0, VisitState.CANCELLED.value),
    else_=VisitState.COMPLETED.value,
)
_note_settled = visit_changes.insertion(visit_changes.ADDED, _visit_sums, _is_ending, state=_end_state)
_settle_visits = (
    update(Visit)
    .where(_is_summed, _is_ending)
    .values(state=_end_state, settled_at=db_now(), version=Visit.version + 1)
    .execution_options(synchronize_session=False)
)


_job_sums = json_rows("sums", job_id=BigInteger(), settled=Integer(), failed=Integer())
_add_to_jobs = (
    update(Job)
    .where(Job.id == _job_sums.c.job_id)
    .values(
        images_open=Job.images_open - _job_sums.c.settled,
        images_done=Job.images_done + _job_sums.c.settled - _job_sums.c.failed,
        images_failed=Job.images_failed + _job_sums.c.failed,
    )
    .execution_options(synchronize_session=False)
)


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a batch ended: outcomes that counted, those refused (their chunk is another worker's), jobs it closed."""

    counted: int
    refused: int
    closed_jobs: tuple[int, ...] = ()


def settle(outcomes: Sequence[Outcome], finished: Collection[ChunkLease]) -> Settlement:
    """Write a batch of outcomes and the counters they change, and give ``finished`` chunks back, in one transaction.

    Guarded twice: a result counts only while its chunk's claim is still its worker's (row lock on the chunk) and its
    image is open at the same attempt. So a stale worker, a repeated delivery and a repeated COMMIT are harmless.
    """
    try:
        return transactions.run(lambda session: _settle(session, outcomes, finished, settling.write_all))
    except settling.PartlySettledError:
        return transactions.run(lambda session: _settle(session, outcomes, finished, settling.write_unsettled))


def _settle(
    session: Session,
    outcomes: Sequence[Outcome],
    finished: Collection[ChunkLease],
    write: Callable[[Session, list[Outcome]], list[Outcome]],
) -> Settlement:
    named = {(outcome.work.chunk, outcome.work.token) for outcome in outcomes}
    held = chunk_leases.lock(session, named | set(finished))
    ours = [outcome for outcome in outcomes if (outcome.work.chunk, outcome.work.token) in held]
    counted = write(session, feeds.without_tensors(ours)) if ours else []
    feeds.note(session, counted)
    # Before the jobs are locked: claims lock chunks first too.
    due = chunk_leases.give_back(session, {lease: held[lease] for lease in finished if lease in held})
    closed = _count(session, [outcome for outcome in counted if outcome.state is not ImageState.OPEN])
    turns.wake(session, due)
    totals.add(session, totals.of(counted))
    return Settlement(len(counted), len(outcomes) - len(counted), closed)


def _count(session: Session, settled: list[Outcome]) -> tuple[int, ...]:
    """Add settled images to their visits and jobs; returns the jobs that this closed."""
    if not settled:
        return ()
    visits: defaultdict[tuple[int, int], _Sums] = defaultdict(_Sums)
    jobs: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    for outcome in settled:
        work = outcome.work
        jobs[work.job_id] += 1
        failed[work.job_id] += outcome.state is ImageState.FAILED
        if work.visit_seq is not None:
            visits[work.job_id, work.visit_seq].add(outcome)
    if visits:
        rows = {"sums": json.dumps([visits[key].as_visit_row(*key) for key in sorted(visits)])}
        session.execute(_add_to_visits, rows)
        _settle_ended(session, rows)
    session.execute(_add_to_jobs, {"sums": json.dumps([(job, jobs[job], failed[job]) for job in sorted(jobs)])})
    return close(session, sorted(jobs), visits)


def settle_visits(session: Session, job_id: int, seqs: Iterable[int]) -> None:
    """Settle those of a job's visits that have no open image left; no commit."""
    _settle_ended(session, {"sums": json.dumps([(job_id, seq) for seq in sorted(seqs)])})


def _settle_ended(session: Session, rows: dict[str, str]) -> None:
    session.execute(_note_settled, rows)
    session.execute(_settle_visits, rows)


_final_state = case(
    # Not by cancelled_at: the last images may have been settled before the cancellation came to them.
    (Job.images_cancelled > 0, JobState.CANCELLED.value),
    (Job.images_failed > 0, JobState.FAILED.value),
    else_=JobState.COMPLETED.value,
)


def close(session: Session, job_ids: Sequence[int], visits: Iterable[tuple[int, int]] = ()) -> tuple[int, ...]:
    """Close those of the jobs that have no open image left, and return them; no commit.

    Who listens is told of that, and of those ``visits`` (job, seq) that have none left either; all of them had one.
    """
    is_finished = and_(Job.images_open == 0, Job.state == JobState.ONGOING)
    heard = (outbox.is_job_heard().label("is_heard"), outbox.is_visit_heard().label("are_visits_heard"))
    asked = (_final_state.label("state"), is_finished.label("is_finished"), *heard)
    jobs = session.execute(select(Job.id, *asked).where(Job.id.in_(job_ids))).all()
    closing = {job.id: job.state for job in jobs if job.is_finished}
    if closing:
        session.execute(
            update(Job)
            .where(Job.id.in_(closing))
            .values(state=_final_state, finished_at=db_now(), version=Job.version + 1)
            .execution_options(synchronize_session=False)
        )
    heard_jobs = {job.id for job in jobs if job.are_visits_heard}
    if told_visits := [key for key in visits if key[0] in heard_jobs]:
        outbox.write_visits(session, told_visits)
    if told := [job.id for job in jobs if job.is_finished and job.is_heard]:
        outbox.write_jobs(session, told)
    states = Counter(closing.values())
    totals.add(session, {(totals.JOBS_FINISHED, state): count for state, count in states.items()})
    return tuple(closing)
