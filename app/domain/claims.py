"""Who works on what: chunks are leased to workers by the database's clock, round the open jobs.

Locks are taken in the order chunks, images, visits, jobs, shares, and by key within a table, here and in ``lifecycle``,
so that writers wait for each other in one direction only.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Executable,
    Float,
    Integer,
    String,
    and_,
    bindparam,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import processors
from app.domain import transactions, turns
from app.domain.turns import Look, Turn
from app.models import Chunk, Image, ImageState, Job
from app.processors import contract
from app.sql import UtcDateTime, db_now, json_rows

# A claim takes no more than half of the images that it sees due, so that another worker gets the rest: the last chunks
# of a job would else keep one of them busy while the others have nothing. Fewer than these are not worth sharing.
CHUNKS_IN_SIGHT = 20
LEAST_SHARE = 100
# Jobs that have come due, or are due no more, are noted first, so many at a time.
MOST_LOOKS = 50


class ChunkKey(NamedTuple):
    job_id: int
    seq: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A chunk that this process may work on until its lease ends; ``token`` is what its results must name."""

    key: ChunkKey
    token: int
    work: tuple[Work, ...]


# Chunks that are locked, by their key and the claim that holds.
Held = Mapping[tuple[ChunkKey, int], Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job wants of each of its images beside the measures."""

    processors: tuple[str, ...] = ()
    keep: bool = False  # a fetched image goes to storage
    is_apart: bool = False  # one of the processors runs in a child process
    has_model: bool = False  # one of them does what the pause stands for
    queue: str | None = None  # on which list of Redis it is told, if on any
    is_slow: bool = False  # an image's body is held for a while after it was downloaded
    lane: str = contract.PLAIN  # whose places its images take, where they are slow


MEASURES = Wanted()


class Work(NamedTuple):
    """One image to be worked on. A tuple, since thousands a second are made: a frozen dataclass takes longer."""

    job_id: int
    seq: int
    chunk: ChunkKey
    token: int
    visit_seq: int | None
    url: str | None
    attempts: int  # before this one
    attempts_before: int = 0  # ... of which so many were made before the last retry
    storage_key: str | None = None  # where it is to be had from, if not None
    sha256: str | None = None  # of the file, where that is known
    wanted: Wanted = MEASURES
    is_suspect: bool = False  # of a chunk whose last worker died at it

    @property
    def is_apart(self) -> bool:
        """Whether it is opened in a child process only."""
        return self.is_suspect or self.wanted.is_apart

    @property
    def is_slow(self) -> bool:
        return self.is_suspect or self.wanted.is_slow


@dataclass(frozen=True, slots=True)
class Room:
    """For about how many images a worker has room, for how many that are slow, and for how many of other lanes."""

    images: int
    slow_images: int
    lanes: Mapping[str, int] = field(default_factory=dict)

    def of(self, wanted: Wanted) -> int:
        """For how many images of a job that wants this."""
        if not wanted.is_slow:
            return self.images
        return self.slow_images if wanted.lane == contract.PLAIN else self.lanes.get(wanted.lane, self.slow_images)

    def at_most(self, images: int) -> Room:
        """The same for no more than so many images."""
        return replace(self, images=min(self.images, images), slow_images=min(self.slow_images, images))


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


_is_open_of_span = and_(
    Image.job_id == _of_job,
    Image.seq.between(bindparam("first"), bindparam("last")),
    Image.state == ImageState.OPEN,
)
_open_images = (
    select(Image.seq, Image.visit_seq, Image.url, Image.attempts, Image.attempts_before)
    .add_columns(Image.storage_key, Image.sha256)
    .with_hint(Image, "FORCE INDEX (PRIMARY)", "mysql")
    .where(
        _is_open_of_span,
        or_(Image.next_attempt_at.is_(None), Image.next_attempt_at <= db_now()),
    )
    .order_by(Image.seq)
)


def _load(session: Session, job_id: int, wanted: Wanted, taken: Sequence[Any]) -> list[Claim]:
    rows = _of_spans(session, _open_images, job_id, taken)
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


def _of_spans(session: Session, query: Executable, job_id: int, chunks: Iterable[Any]) -> list[Any]:
    """What a query of ``_is_open_of_span`` finds in these chunks. Those that lie side by side are one span."""
    spans = ({"of_job": job_id, "first": first, "last": last} for first, last in _spans(chunks))
    return [row for span in spans for row in session.execute(query, span)]


def _spans(chunks: Iterable[Any]) -> list[tuple[int, int]]:
    """The first and the last image of each run of chunks that lie side by side, in order."""
    spans: list[tuple[int, int]] = []
    for first, images in sorted((chunk.first_image, chunk.images) for chunk in chunks):
        if spans and spans[-1][1] == first - 1:
            spans[-1] = (spans[-1][0], first + images - 1)
        else:
            spans.append((first, first + images - 1))
    return spans


def are_of(job_id: int, chunks: Sequence[Any]) -> ColumnElement[bool]:
    """Whether an image lies in one of these chunks, which know ``first_image`` and ``images``."""
    ranges = _spans(chunks)
    # Bounds for all of them, since SQLite would else walk the whole job for ranges that are joined by OR.
    is_near = Image.seq.between(min(first for first, _ in ranges), max(last for _, last in ranges))
    return and_(Image.job_id == job_id, is_near, or_(*(Image.seq.between(*each) for each in ranges)))


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


_leases = json_rows("leases", job_id=BigInteger(), seq=Integer(), claim=Integer())
_is_leased = and_(Chunk.job_id == _leases.c.job_id, Chunk.seq == _leases.c.seq, Chunk.claim == _leases.c.claim)


def renew(held: Collection[tuple[ChunkKey, int]], *, lease_seconds: float) -> None:
    """Push the end of the leases on; those lost meanwhile are left alone, and their results will be refused."""
    parameters = {"leases": json.dumps([[*key, token] for key, token in sorted(held)])}
    statement = update(Chunk).where(_is_leased, Chunk.due_at.is_not(None)).values(due_at=db_now(lease_seconds))
    statement = statement.execution_options(synchronize_session=False)
    transactions.run(lambda session: session.execute(statement, parameters))


def release(finished: Collection[tuple[ChunkKey, int]]) -> None:
    """Give chunks back that this process no longer works on; what is open in them is due at once, or when it says."""
    transactions.run(lambda session: turns.wake(session, give_back(session, lock(session, finished))))


_by_keys = (
    select(Chunk.job_id, Chunk.seq, Chunk.claim, Chunk.first_image, Chunk.images)
    .with_hint(Chunk, "FORCE INDEX (PRIMARY)", "mysql")  # a scan would lock everybody's
    .where(tuple_(Chunk.job_id, Chunk.seq).in_(bindparam("keys", expanding=True)))
    .order_by(Chunk.job_id, Chunk.seq)
    .with_for_update()
)


def lock(session: Session, wanted: Collection[tuple[ChunkKey, int]]) -> Held:
    """Lock these chunks until the transaction ends; returns those of which the claim still holds."""
    if not wanted:
        return {}
    rows = session.execute(_by_keys, {"keys": sorted(tuple(key) for key, _ in wanted)})
    found = {(ChunkKey(row.job_id, row.seq), row.claim): row for row in rows}
    return {lease: found[lease] for lease in wanted if lease in found}


_due = json_rows("given_back", job_id=BigInteger(), seq=Integer(), claim=Integer(), due_at=UtcDateTime)
_give_back = (
    update(Chunk)
    .where(Chunk.job_id == _due.c.job_id, Chunk.seq == _due.c.seq, Chunk.claim == _due.c.claim)
    .values(due_at=_due.c.due_at, unreturned=0)
    .execution_options(synchronize_session=False)
)


def give_back(session: Session, finished: Held) -> dict[int, datetime]:
    """Set from its images when each chunk is due again: with the earliest open one, never if none is; no commit.

    Returns when something of their jobs is due again, which ``turns.wake`` is to be told at the end. The chunks are
    locked: an image that a retry opens at this moment would else be forgotten.
    """
    if not finished:
        return {}
    by_job: defaultdict[int, list[Any]] = defaultdict(list)
    for chunk in finished.values():
        by_job[chunk.job_id].append(chunk)
    rows: list[tuple[int, int, int, str | None]] = []
    earliest: dict[int, datetime] = {}
    for job_id, chunks in sorted(by_job.items()):
        due = _earliest_open(session, job_id, chunks)
        for chunk in sorted(chunks, key=lambda each: each.seq):
            at = due.get(chunk.seq)
            rows.append((job_id, chunk.seq, chunk.claim, at.strftime("%Y-%m-%d %H:%M:%S.%f") if at else None))
        if due:
            earliest[job_id] = min(due.values())
    session.execute(_give_back, {"given_back": json.dumps(rows)})
    return earliest


_open_due = (
    select(Image.seq, func.coalesce(Image.next_attempt_at, db_now()))
    .with_hint(Image, "FORCE INDEX (PRIMARY)", "mysql")
    .where(_is_open_of_span)
)


def _earliest_open(session: Session, job_id: int, chunks: Sequence[Any]) -> dict[int, datetime]:
    """By the seq of a chunk that has an open image: when the earliest of them is due. Nearly always there are none."""
    rows = _of_spans(session, _open_due, job_id, chunks)
    starts = sorted((chunk.first_image, chunk.seq) for chunk in chunks)
    found: dict[int, datetime] = {}
    for seq, due_at in rows:
        _, chunk_seq = starts[bisect_right(starts, seq, key=lambda start: start[0]) - 1]
        found[chunk_seq] = min(found.get(chunk_seq, due_at), due_at)
    return found
