"""What becomes of the leases that ``claims`` gives: chunks are locked for their results, renewed and given back."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Integer, and_, bindparam, func, select, tuple_, update
from sqlalchemy.orm import Session

from app.domain import spans, transactions, turns
from app.domain.works import ChunkKey, ChunkLease
from app.models import Chunk, Image
from app.sql import UtcDateTime, db_now, json_rows

# Chunks that are locked, by the lease that holds.
Held = Mapping[ChunkLease, Any]

# Statements are built once where they are the same each time: ``claims`` says why.
_leases = json_rows("leases", job_id=BigInteger(), seq=Integer(), claim=Integer())
_is_leased = and_(Chunk.job_id == _leases.c.job_id, Chunk.seq == _leases.c.seq, Chunk.claim == _leases.c.claim)


def renew(held: Collection[ChunkLease], *, lease_seconds: float) -> None:
    """Push the end of the leases on; those lost meanwhile are left alone, and their results will be refused."""
    parameters = {"leases": json.dumps([[*key, token] for key, token in sorted(held)])}
    statement = update(Chunk).where(_is_leased, Chunk.due_at.is_not(None)).values(due_at=db_now(lease_seconds))
    statement = statement.execution_options(synchronize_session=False)
    transactions.run(lambda session: session.execute(statement, parameters))


def release(finished: Collection[ChunkLease]) -> None:
    """Give chunks back that this process no longer works on; what is open in them is due at once, or when it says."""
    transactions.run(lambda session: turns.wake(session, give_back(session, lock(session, finished))))


_by_keys = (
    select(Chunk.job_id, Chunk.seq, Chunk.claim, Chunk.first_image, Chunk.images)
    .with_hint(Chunk, "FORCE INDEX (PRIMARY)", "mysql")  # a scan would lock everybody's
    .where(tuple_(Chunk.job_id, Chunk.seq).in_(bindparam("keys", expanding=True)))
    .order_by(Chunk.job_id, Chunk.seq)
    .with_for_update()
)


def lock(session: Session, wanted: Collection[ChunkLease]) -> Held:
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
    .where(spans.is_open)
)


def _earliest_open(session: Session, job_id: int, chunks: Sequence[Any]) -> dict[int, datetime]:
    """By the seq of a chunk that has an open image: when the earliest of them is due. Nearly always there are none."""
    rows = spans.find(session, _open_due, job_id, chunks)
    starts = sorted((chunk.first_image, chunk.seq) for chunk in chunks)
    found: dict[int, datetime] = {}
    for seq, due_at in rows:
        _, chunk_seq = starts[bisect_right(starts, seq, key=lambda start: start[0]) - 1]
        found[chunk_seq] = min(found.get(chunk_seq, due_at), due_at)
    return found
