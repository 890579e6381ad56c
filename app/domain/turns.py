"""Whose turn it is: owners share the workers evenly, and the jobs of an owner share what falls to it.

Start-time fair queueing on both levels. What is given out is *virtual time*: images, by less the higher the priority of
their job. The owner with the least of it is next, then its job with the least. Who comes, or comes back after a while
without work, begins at the virtual time that the others have reached: nothing is saved up, and nobody is starved by
those who keep coming, since each job that begins takes its owner's time along.

A job of which nothing is due is *parked* until something may be, so that thousands of them cost a look nothing:
``parked_until`` is never later than the earliest ``due_at`` of its chunks. Whoever makes a chunk due earlier says so in
the same transaction (``wake``). Should that ever be forgotten, a job is looked at again after a lease at the latest.
Locks: jobs, then shares, after those that ``claims`` names.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Row, bindparam, case, func, insert, select, update
from sqlalchemy.orm import Session

from app.domain import access, transactions
from app.extensions import settings
from app.models import Chunk, Job, JobState, Share
from app.sql import UtcDateTime, db_now

# One step of priority doubles a job's share; TURN_SCALE keeps shares whole numbers down to the lowest priority.
TURN_SCALE = 1 << 10
PRIORITY_NORMAL = 5
CANDIDATES = 8
MOST_WOKEN = 200

_READY = "FORCE INDEX (ix_jobs_turns)"
_is_ready = (Job.state == JobState.ONGOING) & Job.parked_until.is_(None)
_is_wakeful = (Job.state == JobState.ONGOING) & (Job.parked_until <= db_now())
# A list of them is a list of places in the index: a condition on the chunks would have the optimizer gather all chunks
# that are due first.
_earliest_due = (
    select(Chunk.due_at)
    .with_hint(Chunk, "FORCE INDEX (ix_chunks_job_id_due_at)", "mysql")
    .where(Chunk.job_id == Job.id, Chunk.due_at.is_not(None))
    .order_by(Chunk.due_at)
    .limit(1)
    .scalar_subquery()
)
# Built once, as in ``claims``.
_woken = select(Job.id).with_hint(Job, _READY, "mysql").where(_is_wakeful).limit(MOST_WOKEN)
_ready = (
    select(Job.owner_id, Job.lane)
    .with_hint(Job, _READY, "mysql")
    .where(_is_ready)
    # The columns before them have one value each: with these they are the beginning of the index.
    .group_by(Job.state, Job.parked_until, Job.owner_id, Job.lane)
    .subquery()
)
# Owners and lanes of ready jobs, whose turn it is first; by a loose scan: one entry of the index for each.
_lines = (
    select(_ready.c.owner_id, _ready.c.lane, Share.turn, Share.job_turn)
    .add_columns(select(func.max(Share.served)).scalar_subquery().label("reached"))
    .add_columns(_woken.limit(1).scalar_subquery().label("has_woken"))
    .outerjoin(Share, Share.owner_id == func.coalesce(_ready.c.owner_id, access.NO_OWNER))
    .order_by(func.coalesce(Share.turn, 0), _ready.c.owner_id, _ready.c.lane)
)
_candidates = (
    select(Job.id, Job.owner_id, Job.turn, Job.started_at, Job.priority)
    .add_columns(Job.processors, Job.lane, Job.keep_images, Job.feed)
    .add_columns(_earliest_due.label("due_at"), db_now().label("now"))
    .with_hint(Job, _READY, "mysql")
    .where(_is_ready, Job.lane == bindparam("of_lane"), Job.cancelled_at.is_(None))
    .order_by(Job.turn, Job.id)
    .limit(CANDIDATES)
)
_of_nobody = _candidates.where(Job.owner_id.is_(None))
_of_owner = _candidates.where(Job.owner_id == bindparam("of_owner"))


@dataclass(frozen=True, slots=True)
class Turn:
    """The job that is next, and at which virtual times it and its owner are served."""

    job: Row[Any]
    job_start: int
    owner_start: int
    is_first: bool  # nothing was ever given to this owner

    @property
    def place(self) -> tuple[int, int]:
        """Among the jobs of its owner."""
        return self.job.turn, self.job.id


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found: whose turn it is, if anybody's; ``idle`` jobs are to be parked, ``woken`` ones to be woken."""

    turn: Turn | None = None
    idle: Sequence[int] = ()
    woken: Sequence[int] = ()


def look(session: Session, conditions: Sequence[ColumnElement[bool]], lanes: Collection[str]) -> Look:
    """Find whose turn it is among the jobs under these conditions, and of these lanes if any are given.

    Takes no locks, and costs the same however many jobs there are.
    """
    lines = session.execute(_lines).all()
    woken = session.scalars(_woken).all() if not lines or lines[0].has_woken else ()
    if woken:
        return Look(woken=woken)
    for _, of_owner in itertools.groupby(lines, key=lambda line: line.owner_id):
        found = [_look_at(session, line, conditions) for line in of_owner if not lanes or line.lane in lanes]
        due = [each for each in found if each.turn]
        if due:
            return min(due, key=lambda each: each.turn.place)  # type: ignore[union-attr]
        if idle := [job for each in found for job in each.idle]:
            return Look(idle=idle)
    return Look()


def _look_at(session: Session, line: Any, conditions: Sequence[ColumnElement[bool]]) -> Look:
    """The first job in this line of which something is due, and those before it."""
    idle: list[int] = []
    query, of_line = (_of_nobody, {}) if line.owner_id is None else (_of_owner, {"of_owner": line.owner_id})
    if conditions:
        query = query.where(*conditions)
    for job in session.execute(query, {"of_lane": line.lane} | of_line):
        if job.due_at is not None and job.due_at <= job.now:
            owner_start = max(line.turn or 0, line.reached or 0)
            return Look(Turn(job, max(job.turn, line.job_turn or 0), owner_start, line.turn is None), idle)
        idle.append(job.id)
    return Look(idle=idle)


def first_turn(session: Session, owner_id: int | None) -> int:
    """Where a job of this owner begins: at the time that its other jobs have reached."""
    return session.scalar(select(Share.job_turn).where(Share.owner_id == (owner_id or access.NO_OWNER))) or 0


def _at_least(column: Any, least: Any) -> Any:
    return case((column < least, least), else_=column)


_cost = bindparam("cost", type_=BigInteger)
_start, _job_start = bindparam("start", type_=BigInteger), bindparam("job_start", type_=BigInteger)
_give = (
    update(Job)
    .where(Job.id == bindparam("of_job"))
    .values(
        turn=_at_least(Job.turn, _start) + _cost,
        started_at=func.coalesce(Job.started_at, db_now()),
        parked_until=bindparam("until", type_=UtcDateTime),
    )
    .execution_options(synchronize_session=False)
)
_give_share = (
    update(Share)
    .where(Share.owner_id == bindparam("of_owner"))
    # In this order: MySQL has the later ones see what the earlier ones have set.
    .ordered_values(
        (Share.served, _at_least(Share.turn, _start)),
        (Share.turn, _at_least(Share.turn, _start) + _cost),
        (Share.job_turn, _at_least(Share.job_turn, _job_start) + bindparam("job_cost", type_=BigInteger)),
    )
    .execution_options(synchronize_session=False)
)


def give(session: Session, turn: Turn, images: int, *, is_all: bool, lease_seconds: float) -> None:
    """Note that so many images of the job are given out; ``is_all``: nothing else of it is due, so it is parked.

    No commit. Raises IntegrityError where this is the first that its owner is given and another worker was faster.
    Row locks: the job, the share.
    """
    job = turn.job
    cost = int(images * TURN_SCALE / 2.0 ** (job.priority - PRIORITY_NORMAL))
    lease_end = job.now + timedelta(seconds=lease_seconds)
    given = {"of_job": job.id, "start": turn.job_start, "cost": cost, "until": lease_end if is_all else None}
    session.execute(_give, given)
    if is_all:  # what else there is of it may be due before that; read after the job was locked
        earliest = session.scalar(_earliest(job.id))
        if earliest is not None and earliest < lease_end:
            _park(session, job.id, earliest)
    # A job that begins, or is done with, takes along the time of its owner: those that keep coming would else be first
    # for ever.
    _give_owner(session, turn, cost, cost if is_all or job.started_at is None else 0)


def _give_owner(session: Session, turn: Turn, cost: int, job_cost: int) -> None:
    owner_id = turn.job.owner_id or access.NO_OWNER
    if turn.is_first:
        row = {"turn": turn.owner_start + cost, "served": turn.owner_start, "job_turn": turn.job_start + job_cost}
        session.execute(insert(Share).values(owner_id=owner_id, **row))
        return
    given = {"of_owner": owner_id, "start": turn.owner_start, "cost": cost}
    session.execute(_give_share, given | {"job_start": turn.job_start, "job_cost": job_cost})


def wake(session: Session, due: Mapping[int, datetime]) -> None:
    """Chunks of these jobs have come to be due then: look at the jobs by then. No commit; row locks: the jobs."""
    if not due:
        return
    # By a locking read: an update would pass over a job that somebody is parking at this moment.
    rows = session.execute(
        select(Job.id, Job.parked_until).where(Job.id.in_(sorted(due))).order_by(Job.id).with_for_update()
    )
    for job in rows.all():
        if job.parked_until is not None and job.parked_until > due[job.id]:
            _park(session, job.id, due[job.id])


def wake_all(job_ids: Sequence[int]) -> None:
    """Their time has come. Row locks: the jobs, past those that others are waking. Harmless again."""

    def work(session: Session) -> None:
        is_due = Job.id.in_(list(job_ids)) & (Job.parked_until <= db_now())
        found = session.scalars(select(Job.id).where(is_due).order_by(Job.id).with_for_update(skip_locked=True)).all()
        if found:
            session.execute(
                update(Job)
                .where(Job.id.in_(found))
                .values(parked_until=None)
                .execution_options(synchronize_session=False)
            )

    transactions.run(work)


def park(job_ids: Sequence[int]) -> None:
    """Look at these jobs again once something of them is due. Row locks: the jobs, one transaction each."""
    for job_id in job_ids:
        transactions.run(lambda session, job_id=job_id: _park_if_idle(session, job_id))  # type: ignore[misc]


def _park_if_idle(session: Session, job_id: int) -> None:
    is_there = select(Job.id).where(Job.id == job_id, _is_ready).with_for_update(skip_locked=True)
    if session.scalar(is_there) is None:
        return
    # After the lock: whoever makes a chunk due later than this waits for it, and wakes the job then.
    now = session.scalars(select(db_now())).one()
    latest = now + timedelta(seconds=settings.LEASE_SECONDS)
    earliest = session.scalar(_earliest(job_id)) or latest
    if earliest > now:
        _park(session, job_id, min(earliest, latest))


def _park(session: Session, job_id: int, until: datetime) -> None:
    session.execute(
        update(Job).where(Job.id == job_id).values(parked_until=until).execution_options(synchronize_session=False)
    )


def _earliest(job_id: int) -> Any:
    return (
        select(Chunk.due_at)
        .with_hint(Chunk, "FORCE INDEX (ix_chunks_job_id_due_at)", "mysql")
        .where(Chunk.job_id == job_id, Chunk.due_at.is_not(None))
        .order_by(Chunk.due_at)
        .limit(1)
    )
