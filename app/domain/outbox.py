"""Events on their way out: a row for each receiver, written in the transaction in which it happens.

Whoever ends jobs and visits asks here with the query that it makes anyway whether anybody listens, so nobody pays for
webhooks that are not there. What is written follows from rows that the same transaction has changed under their guards:
run again after a lost COMMIT it finds nothing changed, and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    and_,
    case,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy.orm import Session

from app.extensions import settings
from app.models import ALL_JOBS, Delivery, DeliveryState, Job, JobState, Visit, VisitState, Webhook
from app.sql import db_now, json_rows

JOB_COMPLETED, JOB_FAILED, VISIT_SETTLED = "job.completed", "job.failed", "visit.settled"
EVENTS = (JOB_COMPLETED, JOB_FAILED, VISIT_SETTLED)
# What a job's own callback_url is told.
JOB_EVENTS = (JOB_COMPLETED, JOB_FAILED)
TEST = "webhook.test"
DAY_SECONDS = 86_400.0

_COLUMNS = [
    *("webhook_id", "host", "job_id", "visit_seq", "event", "version", "data"),
    *("state", "attempts", "attempts_before", "due_at", "created_at"),
]
_settled = json_rows("settled", job_id=BigInteger(), seq=Integer())


def is_job_heard() -> ColumnElement[bool]:
    """Whether anybody is told when this ``Job`` ends."""
    return or_(hears_all(Job.owner_id), exists().where(Webhook.job_id == Job.id, Webhook.is_enabled))


def is_visit_heard(owner_id: Any = Job.owner_id) -> ColumnElement[bool]:
    """Whether anybody is told when a visit of this ``Job`` is settled."""
    return hears_all(owner_id, VISIT_SETTLED)


def hears_all(owner_id: Any, event: str = "") -> ColumnElement[bool]:
    """Whether anybody hears of an event of all jobs of this owner."""
    return exists().where(_is_of_all(owner_id), Webhook.events.contains(event))


def _is_of_all(owner_id: Any) -> ColumnElement[bool]:
    # One without an owner was made by the service itself, or where nobody is asked who they are: it hears of all.
    is_owner = or_(Webhook.owner_id == owner_id, Webhook.owner_id.is_(None))
    return and_(Webhook.job_id == ALL_JOBS, is_owner, Webhook.is_enabled)


def write_jobs(session: Session, job_ids: Collection[int]) -> None:
    """A delivery for each of these jobs and each who hears of its end; they were closed in this transaction."""
    event = case((Job.state == JobState.COMPLETED, JOB_COMPLETED), else_=JOB_FAILED)
    is_wanted = and_(Job.id.in_(job_ids), Webhook.events.contains(event))
    listeners = (_is_of_all(Job.owner_id), and_(Webhook.job_id == Job.id, Webhook.is_enabled))
    rows = [
        _rows(Job.id, null(), event, Job.version, _job_data()).join_from(Job, Webhook, is_listening).where(is_wanted)
        for is_listening in listeners
    ]
    _insert(session, union_all(*rows))


def write_visits(session: Session, keys: Iterable[tuple[int, int]]) -> None:
    """A delivery for each who hears of them, for those of the visits (job, seq) that are settled.

    Every one of them had an open image when this transaction began: so it is this transaction that settled them.
    """
    rows = (
        # The rows first, then each visit by its key: left to choose, the optimizer reads small tables from end to end.
        _rows(Visit.job_id, Visit.seq, literal(VISIT_SETTLED), Visit.version, _visit_data())
        .prefix_with("STRAIGHT_JOIN", dialect="mysql")
        .select_from(_settled)
        .join(Visit, and_(Visit.job_id == _settled.c.job_id, Visit.seq == _settled.c.seq))
        .join(Job, Job.id == Visit.job_id)
        .join(Webhook, _is_of_all(Job.owner_id))
        .where(Visit.state != VisitState.OPEN, Webhook.events.contains(VISIT_SETTLED))
    )
    _insert(session, rows, {"settled": json.dumps(sorted(keys))})


def write_test(session: Session, webhook: Webhook) -> int:
    """A delivery that only says that messages arrive; returns its id."""
    row = {
        "webhook_id": webhook.id,
        "host": webhook.host,
        "job_id": 0,
        "event": TEST,
        "version": 1,
        "data": {},
        "state": DeliveryState.PENDING,
        "attempts": 0,
        "attempts_before": 0,
        "due_at": db_now(),
        "created_at": db_now(),
    }
    return int(session.connection().execute(insert(Delivery).values(**row)).lastrowid)


def checks(first: int, last: int) -> Iterator[tuple[str, str, Any]]:
    """What the audit asks of the messages of these jobs: code, sentence, query for those that are wrong."""
    is_of_jobs = and_(Delivery.job_id.between(first, last), Delivery.job_id != 0)
    event = (Delivery.job_id, Delivery.webhook_id, Delivery.event, Delivery.visit_seq, Delivery.version)
    doubled = select(*event, func.count().label("rows")).where(is_of_jobs).group_by(*event).having(func.count() > 1)
    sentence = "webhook {webhook_id} is told {rows} times of {event}, version {version}"
    yield "message_doubled", sentence, doubled
    is_pending = Delivery.state == DeliveryState.PENDING
    is_stray = or_(
        is_pending != Delivery.due_at.is_not(None),
        is_pending != Delivery.finished_at.is_(None),
        and_(Delivery.claim.is_not(None), Delivery.due_at.is_(None)),
    )
    stray = select(Delivery.job_id, Delivery.id, Delivery.state, Delivery.due_at).where(is_of_jobs, is_stray)
    yield "message_stray", "message {id} is {state} and due at {due_at}", stray
    yield "callback_missing", "it ended for the {version}. time, and its callback is not told", _missing(first, last)


def _missing(first: int, last: int) -> Any:
    """Callbacks that have listened to all since before the job ended, and have no message of it."""
    is_told = exists().where(Delivery.webhook_id == Webhook.id, Delivery.version == Job.version)
    has_listened = and_(
        Webhook.is_enabled, Webhook.events == ",".join(JOB_EVENTS), Webhook.updated_at < Job.finished_at
    )
    is_kept = Job.finished_at > db_now(-settings.WEBHOOK_KEEP_DAYS * DAY_SECONDS)
    return (
        select(Webhook.job_id, Job.version)
        .join(Job, Job.id == Webhook.job_id)
        .where(Webhook.job_id.between(first, last), Job.state != JobState.ONGOING, has_listened, is_kept, ~is_told)
    )


def _insert(session: Session, rows: Any, parameters: dict[str, str] | None = None) -> None:
    statement = insert(Delivery).from_select(_COLUMNS, rows, include_defaults=False)
    session.connection().execute(statement, parameters or {})


def _rows(job_id: Any, visit_seq: Any, event: Any, version: Any, data: Any) -> Select[Any]:
    """One row a listener, with the columns of ``_COLUMNS``."""
    return select(
        Webhook.id,
        Webhook.host,
        job_id,
        visit_seq,
        event.label("event"),
        version,
        data.label("data"),
        literal(DeliveryState.PENDING.value).label("state"),
        literal(0).label("attempts"),
        literal(0).label("attempts_before"),
        db_now().label("due_at"),
        db_now().label("created_at"),
    )


def _job_data() -> ColumnElement[Any]:
    """As it is now, which a retry will change; the metadata, which nothing changes, is read when it is sent."""
    counts = (Job.images_total, Job.images_done, Job.images_failed, Job.images_cancelled, Job.visits_total)
    return _json(Job.state, Job.source, *counts, Job.created_at, Job.started_at, Job.finished_at)


def _visit_data() -> ColumnElement[Any]:
    counts = (Visit.images_total, Visit.images_failed, Visit.images_cancelled)
    sums = (Visit.perimeter, Visit.seconds, Visit.error_code, Visit.error_message)
    return _json(Visit.store_id, Visit.visited_at, Visit.visited_as_sent, Visit.state, *counts, *sums)


def _json(*columns: Any) -> ColumnElement[Any]:
    pairs = [part for column in columns for part in (literal(column.key), column)]
    return func.json_object(*pairs, type_=JSON)
