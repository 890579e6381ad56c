"""Who works on what: chunks are leased to workers by the database's clock, round the open jobs.

Locks are taken in the order chunks, images, visits, jobs, shares, and by key within a table, here, in ``chunk_leases``
and in ``lifecycle``, so that writers wait for each other in one direction only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Float, String, bindparam, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import processors
from app.domain import spans, transactions, turns
from app.domain.turns import Look, Turn
from app.domain.works import ChunkKey, Claim, Room, Wanted, Work
from app.models import Chunk, Image, Job
from app.processors import contract
from app.sql import db_now

# A claim takes no more than half of the images that it sees due, so that another worker gets the rest: the last chunks
# of a job would else keep one of them busy while the others have nothing. Fewer than these are not worth sharing.
CHUNKS_IN_SIGHT = 20
LEAST_SHARE = 100
# Jobs that have come due, or are due no more, are noted first, so many at a time.
MOST_LOOKS = 50


@dataclass(frozen=True, slots=True)
class Only:
    """Of which doors and lanes jobs are taken; none: of all."""

    sources: Collection[str] = ()
    lanes: Collection[str] = ()


EVERYTHING = Only()


def claim(
    worker: str, room: Room, *, lease_seconds: float, avoid_jobs: Collection[int] = (), only: Only = EVERYTHING
) -> list[Claim] | None:
    """Lease due chunks of one job to ``worker``: as many as it has room for, and at least one.

    None where nothing is due; an empty list where others are just taking what is: look again at once.

    The job is the one whose turn it is (``turns``), and of its chunks those come first of which the lease ran out:
    their images have waited for longest. Row locks: the chunks (skipping locked ones), then the job, then the share of
    its owner. Running again after a lost answer is harmless: what was leased meanwhile comes back when its lease ends.
    """
    conditions = []
    if avoid_jobs:
        conditions.append(Job.id.not_in(list(avoid_jobs)))
    if only.sources:
        conditions.append(Job.source.in_(list(only.sources)))

    def work(session: Session) -> tuple[Look, list[Claim] | None]:
        look = turns.look(session, conditions, only.lanes)
        claimed = _claim(session, look.turn, worker, room, lease_seconds) if look.turn else None
        return look, claimed

    for _ in range(MOST_LOOKS):
        try:
            look, claimed = transactions.run(work)
        except IntegrityError:
            return []  # another worker was just giving their owner the very first share
        turns.park(look.idle)
        if look.woken:
            turns.wake_all(look.woken)
        if look.turn or not (look.idle or look.woken):
            return claimed
    return []


# Statements are built once: SQLAlchemy takes longer to build one, and to find that it has compiled it before, than to
# have it run.
_of_job: BindParameter[int] = bindparam("of_job")
_lease = (
    update(Chunk)
    .with_hint("FORCE INDEX (PRIMARY)", dialect_name="mysql")
    .where(Chunk.job_id == _of_job, Chunk.seq.in_(bindparam("chunks", expanding=True)))
    .values(
        due_at=db_now(bindparam("lease_seconds", type_=Float)),
        claim=Chunk.claim + 1,
        unreturned=Chunk.unreturned + 1,
        claimed_by=bindparam("worker", type_=String),
        claimed_at=db_now(),
    )
    .execution_options(synchronize_session=False)
)


def _claim(session: Session, turn: Turn, worker: str, room: Room, lease_seconds: float) -> list[Claim]:
    job = turn.job
    wanted = _wanted(job)
    due = _due_chunks(session, job.id)
    taken = _share(due, room.of(wanted))
    if not taken:
        return []
    chunks = [chunk.seq for chunk in taken]
    session.execute(_lease, {"of_job": job.id, "chunks": chunks, "worker": worker, "lease_seconds": lease_seconds})
    claimed = _load(session, job.id, wanted, taken)
    # Last, since whoever claims of the same job, or owner, waits for these rows.
    is_all = len(taken) == len(due) < CHUNKS_IN_SIGHT
    turns.give(session, turn, sum(chunk.images for chunk in taken), is_all=is_all, lease_seconds=lease_seconds)
    return claimed


def _share(due: Sequence[Any], room: int) -> list[Any]:
    """The first of these chunks: as many as there is room for, at most our share of them, and at least one."""
    most = min(room, max(LEAST_SHARE, sum(chunk.images for chunk in due) // 2))
    taken: list[Any] = []
    images = 0
    for chunk in due:
        images += chunk.images
        if taken and images > most:
            break
        taken.append(chunk)
    return taken


_due_chunk = (
    select(Chunk.seq, Chunk.first_image, Chunk.images, Chunk.claim, Chunk.unreturned)
    .where(Chunk.job_id == _of_job, Chunk.due_at <= db_now())
    .limit(CHUNKS_IN_SIGHT)
    .with_for_update(skip_locked=True)
)
# Any other way through the table locks chunks that are not taken, and other workers find none.
_due_by_time = _due_chunk.with_hint(Chunk, "FORCE INDEX (ix_chunks_job_id_due_at)", "mysql").order_by(
    Chunk.due_at, Chunk.seq
)
_due_by_key = (
    _due_chunk.with_hint(Chunk, "FORCE INDEX (PRIMARY)", "mysql")
    .where(Chunk.seq.in_(bindparam("chunks", expanding=True)))
    .order_by(Chunk.seq)
)
# Those of which the lease ran out, not locked. On its way are those that are leased: as many as workers hold.
_lapsed = (
    select(Chunk.seq)
    .with_hint(Chunk, "FORCE INDEX (ix_chunks_job_id_unreturned_due_at)", "mysql")
    .where(Chunk.job_id == _of_job, Chunk.unreturned > 0, Chunk.due_at <= db_now())
    .order_by(Chunk.unreturned, Chunk.due_at)
    .limit(CHUNKS_IN_SIGHT)
)


def _due_chunks(session: Session, job_id: int) -> Sequence[Any]:
    """Some of the job's, locked; those first of which the lease ran out, then the others by their time."""
    of_job = {"of_job": job_id}
    due = session.execute(_due_by_time, of_job).all()
    if len(due) < CHUNKS_IN_SIGHT:
        return sorted(due, key=lambda chunk: chunk.unreturned == 0)
    lapsed = session.scalars(_lapsed, of_job).all()
    if not lapsed:
        return due
    first = session.execute(_due_by_key, of_job | {"chunks": lapsed}).all()
    return [*first, *(chunk for chunk in due if chunk.seq not in lapsed)][:CHUNKS_IN_SIGHT]


_open_images = (
    select(Image.seq, Image.visit_seq, Image.url, Image.attempts, Image.attempts_before)
    .add_columns(Image.storage_key, Image.sha256)
    .with_hint(Image, "FORCE INDEX (PRIMARY)", "mysql")
    .where(
        spans.is_open,
        or_(Image.next_attempt_at.is_(None), Image.next_attempt_at <= db_now()),
    )
    .order_by(Image.seq)
)


def _load(session: Session, job_id: int, wanted: Wanted, taken: Sequence[Any]) -> list[Claim]:
    rows = spans.find(session, _open_images, job_id, taken)
    seqs = [row.seq for row in rows]
    return [
        _as_claim(
            ChunkKey(job_id, chunk.seq),
            chunk,
            rows[bisect_left(seqs, chunk.first_image) : bisect_left(seqs, chunk.first_image + chunk.images)],
            wanted,
        )
        for chunk in taken
    ]


def _wanted(job: Any) -> Wanted:
    names, keep = tuple(job.processors or ()), bool(job.keep_images)
    found = processors.find(names)
    is_apart, has_model = any(map(contract.runs_apart, found)), any(map(contract.is_model, found))
    queue = job.feed and job.feed["queue"]
    return Wanted(names, keep, is_apart, has_model, queue, is_slow=is_apart or keep, lane=job.lane)


def _as_claim(key: ChunkKey, chunk: Any, rows: Iterable[Any], wanted: Wanted) -> Claim:
    job_id, token, is_suspect = key.job_id, chunk.claim + 1, chunk.unreturned > 0
    work = tuple(
        # By place: the names of thousands of fields would take longer than all else here.
        Work(job_id, seq, key, token, visit_seq, url, attempts, before, storage_key, sha256, wanted, is_suspect)
        for seq, visit_seq, url, attempts, before, storage_key, sha256 in rows
    )
    return Claim(key, token, work)
