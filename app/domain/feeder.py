"""What has been noted for the lists of Redis is put there, at least once and in bounded number.

Beside each list stands the number of entries that were ever put on it; both change in one transaction of Redis. An
item remembers which entry holds it and stays in the database until that entry has been taken off: entries leave a list
in their order, so those taken are the first ``pushed - length``. Should Redis lose its data, the number is less than
what the items remember, and those are put on again. Whoever puts something on watches the number; two feeders at once
therefore cost repeated entries at worst, and one that was frozen and wakes up puts nothing on before it looks again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import redis
import structlog
from flask import Flask, current_app
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import BigInteger, and_, delete, func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import broker
from app.domain import entries, transactions
from app.domain.entries import Told
from app.domain.feeds import Feed, Queue
from app.errors import UnavailableError
from app.extensions import settings
from app.models import FeedItem, Image, ImageState, Job
from app.sql import json_rows

log = structlog.get_logger()

LOOK_SECONDS = 0.25
MOST_LOOK_SECONDS = 2.0  # while nothing happens
DIED = 70  # exit code: a thread ended by an error
REDIS_SECONDS = 10.0
# Of one job at a time, so that a large one does not hold up the others.
IMAGES_A_TURN = 500
# An entry that names so many failed images is closed, though it has too few good ones.
FAILED_AN_ENTRY = 500
# Whoever feeds says so for this long; another takes over once it is silent.
LEADER_SECONDS = 4.0

_placed = json_rows("placed", id=BigInteger(), position=BigInteger())
_place = (
    update(FeedItem)
    .where(FeedItem.id == _placed.c.id)
    .values(position=_placed.c.position)
    .execution_options(synchronize_session=False)
)


def start(stop: threading.Event) -> None:
    """Feed in a thread of its own until ``stop`` is set."""
    app = cast(Flask, current_app._get_current_object())  # type: ignore[attr-defined]
    threading.Thread(target=_run, args=(app, stop), name="feeder", daemon=True).start()


def _run(app: Flask, stop: threading.Event) -> None:
    try:
        with app.app_context():
            run(stop)
    except BaseException:
        # Nobody would notice a thread that is gone; whoever supervises the process starts it again.
        log.critical("feeder died", exc_info=True)
        os._exit(DIED)


def run(stop: threading.Event) -> None:
    """Feed until ``stop`` is set; survives a database or a Redis that is away."""
    url = broker.client_url(settings.RESULTS_REDIS_URL or settings.REDIS_URL, settings.DATA_DIR)
    once = Retry(NoBackoff(), retries=0)
    with redis.Redis.from_url(
        url, decode_responses=True, socket_connect_timeout=3, socket_timeout=REDIS_SECONDS, retry=once
    ) as client:
        feeder = Feeder(client)
        pause = LOOK_SECONDS
        while not stop.is_set():
            has_fed = _feed(feeder)
            pause = LOOK_SECONDS if has_fed else min(2 * pause, MOST_LOOK_SECONDS)
            if not has_fed:
                stop.wait(pause)
        feeder.resign()


def _feed(feeder: Feeder) -> bool:
    try:
        return feeder.feed()
    except (redis.RedisError, OSError) as error:
        log.warning("nothing fed", reason=f"Redis: {str(error)[:200]}")
    except (UnavailableError, DBAPIError) as error:
        log.warning("nothing fed", reason=str(error)[:200])
    return False


class _OvertakenError(Exception):
    """Somebody else has put something on the list, or Redis has lost it, since it was looked at."""


@dataclass(frozen=True, slots=True)
class _Entry:
    text: str
    items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Noted:
    """Items of one job that are on no list, with their images; ``idle`` have nothing to tell any more."""

    feed: Feed
    items: list[tuple[int, Told]]
    idle: list[int]
    is_all: bool  # nothing will follow: the job has ended, and these are the last


class Feeder:
    """One a process, on one thread. Everything raises redis.RedisError, UnavailableError and DBAPIError."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._name = uuid.uuid4().hex
        # Two services may share a Redis; each has a feeder of its own.
        self._leader = f"queue:feeder:{hashlib.sha256(settings.database_url.encode()).hexdigest()[:16]}"
        self._served: dict[Queue, int] = {}  # the job that had the last turn

    def feed(self) -> bool:
        """Put on the lists what there is room for; True where anything was put on or had been taken off."""
        has_fed = False
        for queue in Queue:
            if transactions.read(partial(_has_items, queue=queue)) and self._leads():
                try:
                    has_fed |= self._feed(queue)
                except _OvertakenError:
                    has_fed = True
        return has_fed

    def _leads(self) -> bool:
        """Only saves repeated entries: what may be put on the lists is decided by their numbers."""
        milliseconds = int(1000 * LEADER_SECONDS)
        if self._client.set(self._leader, self._name, nx=True, px=milliseconds):
            return True
        return self._client.get(self._leader) == self._name and bool(self._client.pexpire(self._leader, milliseconds))

    def resign(self) -> None:
        """Let another lead at once."""
        try:
            if self._client.get(self._leader) == self._name:
                self._client.delete(self._leader)
        except (redis.RedisError, OSError):
            pass  # it is free in some seconds

    def _feed(self, queue: Queue) -> bool:
        # The database first: what is remembered there was put on before, so a number that is less tells of a loss.
        first, last = transactions.read(partial(_remembered, queue=queue))
        pushed, length = self._look(queue)
        if pushed < last:
            self._recover(queue, pushed, last)
            return True
        has_fed = 0 < first <= pushed - length
        if has_fed:
            transactions.run(partial(_forget, queue=queue, taken=pushed - length))
        room = settings.RESULTS_QUEUE_MAX - _images_on(queue, length)
        for job_id in self._turns(queue):
            noted = transactions.read(partial(_noted, queue=queue, job_id=job_id))
            if noted.idle:
                transactions.run(partial(_drop, items=noted.idle))
            for group in _groups(queue, noted):
                fitting = _fitting(group, room, is_empty=room == settings.RESULTS_QUEUE_MAX)
                if not fitting:
                    return has_fed
                pushed = self._put(queue, fitting, pushed)
                room -= sum(len(entry.items) for entry in fitting)
                has_fed = True
            self._served[queue] = job_id
        return has_fed

    def _turns(self, queue: Queue) -> list[int]:
        jobs = transactions.read(partial(_waiting_jobs, queue=queue))
        last = self._served.get(queue, 0)
        return [job for job in jobs if job > last] + [job for job in jobs if job <= last]

    def _look(self, queue: Queue) -> tuple[int, int]:
        """How many entries were ever put on the list, and how many are on it."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.get(_number(queue))
            pipe.llen(_list(queue))
            pushed, length = pipe.execute()
        return int(pushed or 0), int(length)

    def _recover(self, queue: Queue, pushed: int, last: int) -> None:
        """Redis has lost entries: note them anew, and count on from ``last``, so that no position ever comes twice."""
        log.warning("entries lost", queue=queue.value, reason="Redis has forgotten them; they are put on again")
        transactions.run(partial(_note_anew, queue=queue, after=pushed, last=last))
        with self._watched(queue, pushed) as pipe:
            pipe.set(_number(queue), last)
            pipe.execute()

    @contextmanager
    def _watched(self, queue: Queue, pushed: int) -> Iterator[Any]:
        """A transaction of Redis that succeeds only while the number is still ``pushed``. Raises _OvertakenError."""
        try:
            with self._client.pipeline(transaction=True) as pipe:
                pipe.watch(_number(queue))
                if int(cast(Any, pipe.get(_number(queue))) or 0) != pushed:
                    raise _OvertakenError
                pipe.multi()
                yield pipe
        except redis.WatchError as error:
            raise _OvertakenError from error

    def _put(self, queue: Queue, group: Sequence[_Entry], pushed: int) -> int:
        """Put entries on a list of which the number is still ``pushed``; returns what it is then."""
        with self._watched(queue, pushed) as pipe:
            pipe.rpush(_list(queue), *(entry.text for entry in group))
            pipe.incrby(_number(queue), len(group))
            pipe.execute()
        rows = [(item, place) for place, entry in enumerate(group, pushed + 1) for item in entry.items]
        transactions.run(lambda session: session.execute(_place, {"placed": json.dumps(sorted(rows))}))
        return pushed + len(group)


def _fitting(group: Sequence[_Entry], room: int, *, is_empty: bool) -> list[_Entry]:
    """The first of these entries for which there is room; on an empty list there is always room for one."""
    fitting: list[_Entry] = []
    for entry in group:
        room -= len(entry.items)
        if room < 0 and (fitting or not is_empty):
            break
        fitting.append(entry)
    return fitting


def _list(queue: Queue) -> str:
    return f"queue:{queue.value}"


def _number(queue: Queue) -> str:
    return f"queue:{queue.value}:pushed"


def _has_items(session: Session, queue: Queue) -> bool:
    return session.scalar(select(FeedItem.id).where(FeedItem.queue == queue.value).limit(1)) is not None


def _remembered(session: Session, queue: Queue) -> tuple[int, int]:
    """The first and the last position of its entries; 0 where there is none."""
    is_on = and_(FeedItem.queue == queue.value, FeedItem.position.is_not(None))
    first, last = session.execute(select(func.min(FeedItem.position), func.max(FeedItem.position)).where(is_on)).one()
    return first or 0, last or 0


def _forget(session: Session, queue: Queue, taken: int) -> None:
    is_taken = and_(FeedItem.queue == queue.value, FeedItem.position <= taken)
    session.execute(delete(FeedItem).where(is_taken).execution_options(synchronize_session=False))


def _note_anew(session: Session, queue: Queue, after: int, last: int) -> None:
    is_lost = and_(FeedItem.queue == queue.value, FeedItem.position.between(after + 1, last))
    session.execute(update(FeedItem).where(is_lost).values(position=None).execution_options(synchronize_session=False))


def _images_on(queue: Queue, length: int) -> int:
    """How many images the list tells of."""
    if queue is Queue.IMAGES:
        return length
    query = select(func.count()).where(FeedItem.queue == queue.value, FeedItem.position.is_not(None))
    return transactions.read(lambda session: session.scalar(query)) or 0


def _waiting_jobs(session: Session, queue: Queue) -> Sequence[int]:
    query = select(FeedItem.job_id).where(FeedItem.queue == queue.value, FeedItem.position.is_(None))
    return session.scalars(query.distinct().order_by(FeedItem.job_id)).all()


def _noted(session: Session, queue: Queue, job_id: int) -> _Noted:
    # The job first: if nothing of it is open, all that will ever be noted of it is there by now.
    job = session.execute(select(Job.feed, Job.images_open).where(Job.id == job_id)).first()
    if job is None:  # purged in this moment, with its items
        return _Noted(Feed(queue), [], [], is_all=True)
    feed = Feed.of(job.feed)
    most = IMAGES_A_TURN + (FAILED_AN_ENTRY + feed.batch_size if queue is Queue.BATCH else 0)
    rows = session.execute(
        select(FeedItem.id, FeedItem.tensor, Image)
        .join(Image, (Image.job_id == FeedItem.job_id) & (Image.seq == FeedItem.seq))
        .where(FeedItem.queue == queue.value, FeedItem.position.is_(None), FeedItem.job_id == job_id)
        .order_by(FeedItem.id)
        .limit(most)
    ).all()
    # A retry has opened them again: they will be noted anew.
    idle = [row.id for row in rows if row.Image.state is ImageState.OPEN]
    items = [(row.id, Told(row.Image, row.tensor)) for row in rows if row.Image.state is not ImageState.OPEN]
    return _Noted(feed, items, idle, is_all=not job.images_open and len(rows) < most)


def _drop(session: Session, items: Sequence[int]) -> None:
    session.execute(delete(FeedItem).where(FeedItem.id.in_(items)).execution_options(synchronize_session=False))


def _groups(queue: Queue, noted: _Noted) -> Iterator[list[_Entry]]:
    """The entries, those together that are put on at once."""
    if queue is Queue.IMAGES:
        if noted.items:
            yield [_Entry(entries.of_image(told.image), (item,)) for item, told in noted.items]
        return
    for batch in _batches(noted):
        yield [_Entry(entries.of_batch([told for _, told in batch], noted.feed), tuple(item for item, _ in batch))]


def _batches(noted: _Noted) -> Iterator[list[tuple[int, Told]]]:
    """Items by batches of so many good images, the failed ones between them; the last may be short."""
    batch: list[tuple[int, Told]] = []
    good = 0
    for item, told in noted.items:
        batch.append((item, told))
        good += not told.has_failed
        if good == noted.feed.batch_size or len(batch) - good == FAILED_AN_ENTRY:
            yield batch
            batch, good = [], 0
    if batch and noted.is_all:
        yield batch
