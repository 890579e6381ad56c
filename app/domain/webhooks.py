"""Who is told of events: subscriptions of all jobs of an owner, and the callback_url of one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, func, insert, select
from sqlalchemy.orm import Session

from app import signatures
from app.domain import access, cursors, idempotency, outbox, transactions
from app.domain.idempotency import Idempotency
from app.errors import ConflictError, FetchError, InvalidRequestError, NotFoundError
from app.extensions import settings
from app.later import Later
from app.models import ALL_JOBS, Webhook
from app.sql import db_now

if TYPE_CHECKING:
    from app.fetching import posts
else:
    posts = Later("app.fetching.posts")

# Each is a row more for every event.
MOST_SUBSCRIPTIONS = 20
MOST_FAILING = 10  # that are told of


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """``secret`` None has one made."""

    url: str
    events: Collection[str] = outbox.JOB_EVENTS
    secret: str | None = None
    is_enabled: bool = True
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be another; None leaves it as it is."""

    url: str | None = None
    events: Collection[str] | None = None
    secret: str | None = None
    is_enabled: bool | None = None
    description: str | None = None


def check(url: str, field: str) -> None:
    """Refuse an address that can be seen to be of no use. Raises InvalidRequestError, which names ``field``."""
    try:
        posts.check_receiver(url, settings.allowed_networks, settings.FETCH_MAX_URL_BYTES)
    except FetchError as error:
        raise InvalidRequestError(f"{field}: {error.message[0].lower()}{error.message[1:].rstrip('.')}") from error


def create(new: NewWebhook, name: Idempotency | None = None) -> Webhook:
    """Subscribe to events of all jobs of the caller, from now on.

    With the ``name`` of an earlier call it returns that call's subscription. Raises InvalidRequestError, and
    ConflictError where there are too many already.
    """
    check(new.url, "url")
    return idempotency.run(lambda session: _create(session, new, name))


def _create(session: Session, new: NewWebhook, name: Idempotency | None) -> Webhook:
    if first := idempotency.recall(session, name):
        return load(session, first.answer["webhook_id"])
    is_of_owner = (Webhook.job_id == ALL_JOBS, Webhook.owner_id.is_not_distinct_from(access.current().owner_id))
    if (session.scalar(select(func.count()).where(*is_of_owner)) or 0) >= MOST_SUBSCRIPTIONS:
        raise ConflictError(f"there are {MOST_SUBSCRIPTIONS} webhooks already: remove one first")
    webhook_id = _insert(session, new, ALL_JOBS)
    idempotency.remember(session, name, ALL_JOBS, {"webhook_id": webhook_id})
    return load(session, webhook_id)


def callback_secret(job_id: int) -> str | None:
    """What messages to a job's callback_url are signed with; None where there is none."""
    query = select(Webhook.secret).where(Webhook.job_id == job_id, access.is_visible(Webhook))
    return transactions.read(lambda session: session.scalars(query).first())


def add_callback(session: Session, job_id: int, new: NewWebhook) -> None:
    """Have this one job's end told to an address, which was checked; no commit."""
    _insert(session, new, job_id)


def _insert(session: Session, new: NewWebhook, job_id: int) -> int:
    row = {
        "owner_id": access.current().owner_id,
        "job_id": job_id,
        "url": new.url,
        "host": posts.host_of(new.url, settings.FETCH_MAX_URL_BYTES),
        "secret": new.secret or signatures.new_secret(),
        "events": ",".join(new.events),
        "is_enabled": new.is_enabled,
        "description": new.description,
        "created_at": db_now(),
        "updated_at": db_now(),
    }
    return int(session.connection().execute(insert(Webhook).values(**row)).lastrowid)


def get(webhook_id: int) -> Webhook:
    """Raises NotFoundError."""
    return transactions.read(lambda session: load(session, webhook_id))


def find(job_id: int | None, *, cursor: str | None, per_page: int) -> tuple[list[Webhook], str | None]:
    """A page of subscriptions, or with ``job_id`` of that job's callback, newest first; and the next one's cursor."""
    conditions = [access.is_visible(Webhook), Webhook.job_id == (ALL_JOBS if job_id is None else job_id)]
    if cursor:
        conditions.append(Webhook.id < cursors.read(cursor, [int])[0])
    query = select(Webhook).where(*conditions).order_by(Webhook.id.desc()).limit(per_page + 1)
    found = list(transactions.read(lambda session: session.scalars(query).all()))
    page = found[:per_page]
    return page, cursors.write(page[-1].id) if len(found) > per_page else None


def change(webhook_id: int, wanted: Change) -> Webhook:
    """Change what is given; to change it again is harmless. Raises NotFoundError, InvalidRequestError."""
    if wanted.url is not None:
        check(wanted.url, "url")
    return transactions.run(lambda session: _change(session, webhook_id, wanted))


def _change(session: Session, webhook_id: int, wanted: Change) -> Webhook:
    """Row lock: the webhook."""
    webhook = load(session, webhook_id, is_locked=True)
    if wanted.url is not None:
        webhook.url, webhook.host = wanted.url, posts.host_of(wanted.url, settings.FETCH_MAX_URL_BYTES)
    if wanted.events is not None:
        webhook.events = ",".join(wanted.events)
    if wanted.description is not None:
        webhook.description = wanted.description or None
    if wanted.is_enabled is not None:
        webhook.is_enabled, webhook.disabled_reason = wanted.is_enabled, None
    if wanted.secret is not None and wanted.secret != webhook.secret:
        _set_secret(webhook, wanted.secret)
    webhook.updated_at = db_now()
    session.flush()
    session.refresh(webhook)
    return webhook


def rotate(webhook_id: int, name: Idempotency | None = None) -> Webhook:
    """Give it a new secret; the one before signs too for a day. Raises NotFoundError."""
    secret = signatures.new_secret()

    def work(session: Session) -> Webhook:
        if idempotency.recall(session, name):
            return load(session, webhook_id)
        webhook = load(session, webhook_id, is_locked=True)
        if webhook.secret != secret:
            _set_secret(webhook, secret)
        idempotency.remember(session, name, webhook.job_id, {"webhook_id": webhook_id})
        session.flush()
        session.refresh(webhook)
        return webhook

    return idempotency.run(work)


def _set_secret(webhook: Webhook, secret: str) -> None:
    webhook.secret_before, webhook.secret = webhook.secret, secret
    webhook.secret_changed_at = db_now()


def remove(webhook_id: int) -> Webhook:
    """Delete it; what was still to be sent to it is given up. Raises NotFoundError."""

    def work(session: Session) -> Webhook:
        webhook = load(session, webhook_id, is_locked=True)
        session.execute(delete(Webhook).where(Webhook.id == webhook_id))
        return webhook

    return transactions.run(work)


def test(webhook_id: int, name: Idempotency | None = None) -> int:
    """Have a message sent that says that messages arrive; returns its delivery. Raises NotFoundError, ConflictError."""

    def work(session: Session) -> int:
        if first := idempotency.recall(session, name):
            return int(first.answer["delivery_id"])
        webhook = expect_enabled(load(session, webhook_id))
        delivery_id = outbox.write_test(session, webhook)
        idempotency.remember(session, name, webhook.job_id, {"delivery_id": delivery_id})
        return delivery_id

    return idempotency.run(work)


def expect_enabled(webhook: Webhook) -> Webhook:
    """Raises ConflictError where nothing is sent to it."""
    if not webhook.is_enabled:
        raise ConflictError("the webhook is disabled: enable it first")
    return webhook


def find_failing() -> list[tuple[Webhook, float]]:
    """Webhooks to which nothing arrives, those first that fail the longest, and for how many seconds."""
    is_failing = and_(Webhook.failing_since.is_not(None), Webhook.is_enabled)
    query = select(Webhook, db_now()).where(is_failing).order_by(Webhook.failing_since).limit(MOST_FAILING)
    rows = transactions.read(lambda session: session.execute(query).all())
    return [(webhook, (now - (webhook.failing_since or now)).total_seconds()) for webhook, now in rows]


def load(session: Session, webhook_id: int, *, is_locked: bool = False) -> Webhook:
    found = None
    if 0 < webhook_id <= cursors.MOST_NUMBER:
        query = select(Webhook).where(Webhook.id == webhook_id, access.is_visible(Webhook))
        found = session.scalars(query.with_for_update() if is_locked else query).first()
    if found is None:
        raise NotFoundError("no such webhook")
    return found
