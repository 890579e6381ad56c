"""Feeds: jobs of which the images are told on a list of Redis as they are done.

An image is noted here in the transaction that settles it, so that none is told that does not count, and none that
counts is forgotten. ``feeder`` puts what is noted on the lists.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, func, insert, literal, select
from sqlalchemy.orm import Session

from app.domain import transactions
from app.domain.outcomes import Outcome
from app.models import FeedItem, Image, ImageState, Job
from app.processors import tensor
from app.sql import db_now

MOST_A_BATCH = 1024  # tensors: 50 MB as JSON


class Queue(StrEnum):
    """The lists; in Redis their names begin with ``queue:``."""

    IMAGES = "images"  # an entry an image
    BATCH = "batch"  # an entry for every so many tensors


class DType(StrEnum):
    UINT8 = "uint8"
    FLOAT32 = "float32"  # from 0 to 1


class Encoding(StrEnum):
    JSON = "json"
    BASE64 = "base64"


@dataclass(frozen=True, slots=True)
class Feed:
    """How a job is told; the last three are for BATCH."""

    queue: Queue
    batch_size: int = 0
    dtype: DType = DType.UINT8
    encoding: Encoding = Encoding.JSON

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Feed:
        return cls(Queue(stored["queue"]), stored["batch_size"], DType(stored["dtype"]), Encoding(stored["encoding"]))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a list stands: images that wait to be put on it, the first of them for so long, and those that lie there."""

    queue: Queue
    waiting: int
    seconds: float
    listed: int


def standings() -> list[Standing]:
    """Of the lists that there is anything to say about."""
    return transactions.read(lambda session: [found for queue in Queue if (found := _standing(session, queue))])


def _standing(session: Session, queue: Queue) -> Standing | None:
    ours = FeedItem.queue == queue.value
    total, listed = session.execute(select(func.count(), func.count(FeedItem.position)).where(ours)).one()
    if not total:
        return None
    is_image = and_(Image.job_id == FeedItem.job_id, Image.seq == FeedItem.seq)
    first = select(Image.settled_at).join(FeedItem, is_image).where(ours, FeedItem.position.is_(None))
    since = session.scalar(first.order_by(FeedItem.job_id, FeedItem.id).limit(1))
    now = session.scalars(select(db_now())).one()
    return Standing(queue, total - listed, (now - since).total_seconds() if since else 0.0, listed)


def without_tensors(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The same outcomes, in which the tensor of a job that is told in batches stands beside its results.

    It is written where it leaves again soon; the row of the image would keep it.
    """
    return [_without_tensor(each) if each.work.wanted.queue == Queue.BATCH else each for each in outcomes]


def _without_tensor(outcome: Outcome) -> Outcome:
    results = json.loads(outcome.results or "{}")
    result = results.get(tensor.NAME, {}).get("result")
    if result is None:
        return outcome
    data = base64.b64decode(result.pop("data"))
    return outcome._replace(results=json.dumps(results, ensure_ascii=False), tensor=data)


def note(session: Session, settled: Iterable[Outcome]) -> None:
    """Note what is to be told of images that were settled just now; no commit."""
    rows = [
        {
            "queue": outcome.work.wanted.queue,
            "job_id": outcome.work.job_id,
            "seq": outcome.work.seq,
            "tensor": outcome.tensor,
        }
        for outcome in settled
        if outcome.work.wanted.queue and outcome.state is not ImageState.OPEN
    ]
    if rows:
        session.connection().execute(insert(FeedItem), rows)


def note_open(session: Session, job_id: int, which: ColumnElement[bool]) -> None:
    """Note those images of a job which are about to be cancelled, if it is told of: who waits for all must not wait on.

    No commit.
    """
    feed = session.scalar(select(Job.feed).where(Job.id == job_id))
    if feed:
        rows = select(literal(feed["queue"]), Image.job_id, Image.seq).where(which).order_by(Image.seq)
        session.execute(insert(FeedItem).from_select(["queue", "job_id", "seq"], rows))
