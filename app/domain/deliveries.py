"""The books of what is sent to receivers: claimed by lease, settled under the claim, shown, sent again, and deleted.

A delivery is the record of its own: whoever dies with one in hand leaves a lease that runs out, and the message is sent
again under the same id.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, SmallInteger, String, Text, and_, case, delete, exists, func, select, update
from sqlalchemy.orm import Session

from app.domain import access, cursors, idempotency, totals, transactions, webhooks
from app.domain.idempotency import Idempotency
from app.errors import NotFoundError
from app.extensions import settings
from app.models import Delivery, DeliveryState, Job, Webhook
from app.sql import db_now, json_rows

# So many that are due are looked at; behind hosts that are busy, the next look finds others.
CANDIDATES = 200
DELETED_AT_ONCE = 1000
DAY_SECONDS = 86_400.0
# An old secret signs for so long beside the new one.
OLD_SECRET_SECONDS = DAY_SECONDS
# Due for longer than this, deliveries are not just waiting for their turn.
LATE_SECONDS = 300.0
GONE = "the receiver answered 410 Gone"


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that this process may send until its lease ends.

    ``url`` is None where there is nowhere to send it to, and ``reason`` says why. ``now`` is the database's time.
    """

    delivery: Delivery
    token: str
    url: str | None
    reason: str
    secrets: tuple[str, ...]
    metadata: dict[str, Any] | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Sent:
    """What one try came to. PENDING is due again after ``delay_seconds``."""

    due: Due
    state: DeliveryState
    tries: list[dict[str, Any]]
    error: str | None = None
    delay_seconds: float | None = None
    is_attempt: bool = True
    is_gone: bool = False  # the receiver wants no more


def claim(
    token: str, *, most: int, full_hosts: Collection[str], room_of: Callable[[str], int], lease_seconds: float
) -> list[Due]:
    """Lease up to ``most`` due deliveries, of each host as many as ``room_of`` says; not of ``full_hosts``.

    Running again after a lost answer is harmless: what was leased meanwhile comes back when its lease ends.
    """
    # Most looks find nothing, and need not be writers.
    ids = transactions.read(lambda session: _pick(session, most, full_hosts, room_of))
    return transactions.run(lambda session: _claim(session, token, ids, lease_seconds)) if ids else []


def _pick(session: Session, most: int, full_hosts: Collection[str], room_of: Callable[[str], int]) -> list[int]:
    query = select(Delivery.id, Delivery.host).where(Delivery.due_at <= db_now())
    if full_hosts:
        query = query.where(Delivery.host.not_in(list(full_hosts)))
    picked: defaultdict[str, list[int]] = defaultdict(list)
    for row in session.execute(query.order_by(Delivery.due_at, Delivery.host, Delivery.id).limit(CANDIDATES)):
        if len(picked[row.host]) < room_of(row.host):
            picked[row.host].append(row.id)
    return sorted(each for of_host in picked.values() for each in of_host)[:most]


def _claim(session: Session, token: str, ids: Sequence[int], lease_seconds: float) -> list[Due]:
    # Picked without locks: another sender may have been faster.
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(ids), Delivery.due_at <= db_now())
        .values(due_at=db_now(lease_seconds), claim=token)
        .execution_options(synchronize_session=False)
    )
    is_old_valid = Webhook.secret_changed_at > db_now(-OLD_SECRET_SECONDS)
    query = (
        select(Delivery, Webhook, Job.client_metadata, db_now().label("now"))
        .add_columns(case((is_old_valid, Webhook.secret_before)).label("secret_before"))
        .outerjoin(Webhook, Webhook.id == Delivery.webhook_id)
        .outerjoin(Job, Job.id == Delivery.job_id)
        .where(Delivery.id.in_(ids), Delivery.claim == token)
        .order_by(Delivery.id)
    )
    return [_as_due(row, token) for row in session.execute(query)]


def _as_due(row: Any, token: str) -> Due:
    webhook = row.Webhook
    reason = "the webhook was removed" if webhook is None else "" if webhook.is_enabled else "the webhook is disabled"
    url = None if reason else webhook.url
    secrets = () if reason else tuple(filter(None, (webhook.secret, row.secret_before)))
    return Due(row.Delivery, token, url, reason, secrets, row.client_metadata, row.now)


_sent = json_rows(
    "sent",
    id=BigInteger(),
    claim=String(32),
    state=String(16),
    is_attempt=SmallInteger(),
    delay=Float(53),
    tries=Text(),
)
_write_sent = (
    update(Delivery)
    # A result of one whose lease has run out counts for nothing: somebody else sends it again.
    .where(Delivery.id == _sent.c.id, Delivery.claim == _sent.c.claim)
    .values(
        state=_sent.c.state,
        attempts=Delivery.attempts + _sent.c.is_attempt,
        due_at=case((_sent.c.delay.is_not(None), db_now(_sent.c.delay))),
        finished_at=case((_sent.c.delay.is_(None), db_now())),
        tries=_sent.c.tries,
        claim=None,
    )
    .execution_options(synchronize_session=False)
)


def settle(results: Sequence[Sent]) -> None:
    """Write down what tries came to, and how their receivers are. A second time it finds the claims given up.

    Row locks: the deliveries, then the webhooks.
    """
    rows = [
        (
            sent.due.delivery.id,
            sent.due.token,
            sent.state.value,
            int(sent.is_attempt),
            sent.delay_seconds,
            json.dumps(sent.tries),
        )
        for sent in sorted(results, key=lambda each: each.due.delivery.id)
    ]

    def work(session: Session) -> None:
        tries = _new_tries(session, results)
        session.execute(_write_sent, {"sent": json.dumps(rows)})
        _note_receivers(session, [sent for sent in results if sent.is_attempt])
        totals.add(session, tries)

    transactions.run(work)


def _new_tries(session: Session, results: Sequence[Sent]) -> totals.Counts:
    """What these add to the totals: a second time their claims are given up, and they add nothing. Locks their rows."""
    tried = {sent.due.delivery.id: sent for sent in results if sent.is_attempt}
    query = select(Delivery.id, Delivery.claim).where(Delivery.id.in_(sorted(tried))).order_by(Delivery.id)
    held = [tried[row.id] for row in session.execute(query.with_for_update()) if row.claim == tried[row.id].due.token]
    return Counter((totals.WEBHOOK_TRIES, sent.state.value) for sent in held)


def _note_receivers(session: Session, results: Sequence[Sent]) -> None:
    """How each receiver is by its last try; one that is gone is told nothing more."""
    last = {sent.due.delivery.webhook_id: sent for sent in results}
    good = [webhook_id for webhook_id, sent in last.items() if sent.state is DeliveryState.DELIVERED]
    if good:
        is_recovered = and_(Webhook.id.in_(sorted(good)), Webhook.failing_since.is_not(None))
        session.execute(_webhooks(is_recovered).values(failing_since=None, last_error=None))
    for webhook_id, sent in sorted(last.items()):
        if sent.error:
            failing = {"failing_since": func.coalesce(Webhook.failing_since, db_now()), "last_error": sent.error}
            session.execute(_webhooks(Webhook.id == webhook_id).values(**failing))
        if sent.is_gone:
            gone = {"is_enabled": False, "disabled_reason": GONE, "updated_at": db_now()}
            session.execute(_webhooks(Webhook.id == webhook_id).values(**gone))


def _webhooks(which: Any) -> Any:
    return update(Webhook).where(which).execution_options(synchronize_session=False)


def release(held: Iterable[Due]) -> None:
    """Give deliveries back untried: they are due at once."""
    ids, tokens = sorted(due.delivery.id for due in held), {due.token for due in held}
    is_held = and_(Delivery.id.in_(ids), Delivery.claim.in_(tokens))
    statement = update(Delivery).where(is_held).values(due_at=db_now(), claim=None)
    transactions.run(lambda session: session.execute(statement.execution_options(synchronize_session=False)))


@dataclass(frozen=True, slots=True)
class Shown:
    """A delivery, and the metadata that its message carries."""

    delivery: Delivery
    metadata: dict[str, Any] | None


def get(delivery_id: int) -> Shown:
    """Raises NotFoundError."""
    return transactions.read(lambda session: _load(session, delivery_id))


def _load(session: Session, delivery_id: int) -> Shown:
    found = None
    if 0 < delivery_id <= cursors.MOST_NUMBER:
        is_visible = exists().where(Webhook.id == Delivery.webhook_id, access.is_visible(Webhook))
        query = select(Delivery, Job.client_metadata).outerjoin(Job, Job.id == Delivery.job_id)
        found = session.execute(query.where(Delivery.id == delivery_id, is_visible)).first()
    if found is None:
        raise NotFoundError("no such delivery")
    return Shown(found.Delivery, found.client_metadata)


def find(
    webhook_id: int, state: DeliveryState | None, *, cursor: str | None, per_page: int
) -> tuple[list[Delivery], str | None]:
    """A page of what a webhook was sent, newest first, and the cursor of the next one. Raises NotFoundError."""
    conditions = [Delivery.webhook_id == webhook_id]
    if cursor:
        conditions.append(Delivery.id < cursors.read(cursor, [int])[0])
    if state:
        conditions.append(Delivery.state == state)
    query = select(Delivery).where(*conditions).order_by(Delivery.id.desc()).limit(per_page + 1)

    def read(session: Session) -> list[Delivery]:
        webhooks.load(session, webhook_id)
        return list(session.scalars(query))

    found = transactions.read(read)
    page = found[:per_page]
    return page, cursors.write(page[-1].id) if len(found) > per_page else None


def redeliver(delivery_id: int, name: Idempotency | None = None) -> Shown:
    """Send it once more, under the same id, with new attempts; one that is just being sent is left alone.

    Raises NotFoundError, and ConflictError where the webhook is disabled.
    """

    def work(session: Session) -> Shown:
        shown = _load(session, delivery_id)
        if idempotency.recall(session, name):
            return shown
        webhooks.expect_enabled(webhooks.load(session, shown.delivery.webhook_id))
        session.execute(
            update(Delivery)
            .where(Delivery.id == delivery_id, Delivery.claim.is_(None))
            .values(
                state=DeliveryState.PENDING,
                due_at=db_now(),
                attempts_before=Delivery.attempts,
                finished_at=None,
            )
            .execution_options(synchronize_session=False)
        )
        idempotency.remember(session, name, shown.delivery.job_id, {"delivery_id": delivery_id})
        session.refresh(shown.delivery)
        return shown

    return idempotency.run(work)


def count_due() -> tuple[int, float | None]:
    """How many deliveries are due, and for how many seconds the oldest is."""

    def read(session: Session) -> tuple[int, float | None]:
        due = select(func.count(), func.min(Delivery.due_at), db_now()).where(Delivery.due_at <= db_now())
        count, oldest, now = session.execute(due).one()
        return count, (now - oldest).total_seconds() if oldest else None

    return transactions.read(read)


def is_any_late() -> bool:
    """Whether deliveries are due that nobody sends."""
    late = select(exists().where(Delivery.due_at < db_now(-LATE_SECONDS)))
    return transactions.read(lambda session: bool(session.scalar(late)))


def forget() -> None:
    """Delete deliveries older than ``WEBHOOK_KEEP_DAYS``, in slices that lock little."""
    while transactions.run(_forget_some) == DELETED_AT_ONCE:
        pass


def _forget_some(session: Session) -> int:
    """They came in the order of their ids, so no index over their age is needed."""
    is_old = (Delivery.created_at < db_now(-settings.WEBHOOK_KEEP_DAYS * DAY_SECONDS)).label("is_old")
    first = session.execute(select(Delivery.id, is_old).order_by(Delivery.id).limit(DELETED_AT_ONCE)).all()
    old = [row.id for row in first if row.is_old]
    if old:
        session.execute(delete(Delivery).where(Delivery.id.in_(old)).execution_options(synchronize_session=False))
    return len(old)
