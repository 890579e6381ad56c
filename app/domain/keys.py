"""API keys: made, shown once, found again by what a caller sends, revoked.

A key is ``ij_`` with eight characters to know it by, and 256 random bits behind them. Those bits cannot be guessed, so
a plain SHA-256 of the key is kept, and no slow hash that each request would pay for. What was looked up is remembered
for ``REMEMBERED_SECONDS`` in each process: that long a revoked key may still be taken.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import structlog
from flask import current_app
from sqlalchemy import and_, func, insert, or_, select, update
from sqlalchemy.orm import Session

from app.domain import cursors, idempotency, transactions
from app.domain.access import Caller, Scope
from app.domain.idempotency import Idempotency
from app.errors import AuthenticationError, InvalidRequestError, NotFoundError, UnavailableError
from app.models import ApiKey
from app.sql import db_now

log = structlog.get_logger()

KEY = re.compile(r"(ij_[a-z0-9]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
PREFIX_LETTERS = string.ascii_lowercase + string.digits
PREFIX_CHARACTERS = len("ij_") + 8
SECRET_BYTES = 32
REMEMBERED_SECONDS = 5.0
MOST_REMEMBERED = 1000
# ``last_used_at`` is written no more often, however often the key is used.
USE_NOTED_SECONDS = 60.0
DAY_SECONDS = 86_400.0
DEFAULT_SCOPES = frozenset({Scope.SUBMIT, Scope.READ})


@dataclass(frozen=True, slots=True)
class NewKey:
    """``same_owner_as`` is the id or the prefix of a key whose jobs this one is to see too; None: an owner anew."""

    label: str = ""
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    same_owner_as: str | None = None
    days: int | None = None  # that it is valid; None: until it is revoked


@dataclass(frozen=True, slots=True)
class Made:
    """``text`` is the key itself, which is nowhere kept; None where an earlier request has been given it."""

    key: ApiKey
    text: str | None


def create(new: NewKey, name: Idempotency | None = None) -> Made:
    """Make a key. With the ``name`` of an earlier call it returns that call's key, without its text.

    A transaction repeated after a lost COMMIT finds its own key by the prefix. Raises InvalidRequestError,
    ConflictError.
    """
    prefix = "ij_" + "".join(secrets.choice(PREFIX_LETTERS) for _ in range(8))
    text = f"{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
    key = idempotency.run(lambda session: _create(session, new, name, text))
    return Made(key, text if key.prefix == prefix else None)


def _create(session: Session, new: NewKey, name: Idempotency | None, text: str) -> ApiKey:
    prefix = text[:PREFIX_CHARACTERS]
    own = session.scalars(select(ApiKey).where(ApiKey.prefix == prefix)).one_or_none()
    if own:
        return own
    if first := idempotency.recall(session, name):
        return session.get_one(ApiKey, first.answer["key_id"])
    owner_id = _owner_of(session, new.same_owner_as) if new.same_owner_as else None
    row = {
        "owner_id": owner_id or 0,
        "prefix": prefix,
        "sha256": _digest(text),
        "label": new.label,
        "scopes": sorted(new.scopes),
        "expires_at": None if new.days is None else db_now(new.days * DAY_SECONDS),
    }
    key_id = session.connection().execute(insert(ApiKey).values(**row, created_at=db_now())).lastrowid
    if owner_id is None:
        session.execute(update(ApiKey).where(ApiKey.id == key_id).values(owner_id=key_id))
    idempotency.remember(session, name, 0, {"key_id": key_id})
    return session.get_one(ApiKey, key_id)


def _owner_of(session: Session, reference: str) -> int:
    try:
        return load(session, reference).owner_id
    except NotFoundError as error:
        raise InvalidRequestError("same_owner_as: no such key") from error


def load(session: Session, reference: str) -> ApiKey:
    """The key with this id or prefix. Raises NotFoundError."""
    is_id = reference.isdecimal() and reference.isascii() and int(reference) <= cursors.MOST_NUMBER
    named = ApiKey.id == int(reference) if is_id else ApiKey.prefix == reference
    key = session.scalars(select(ApiKey).where(named)).one_or_none()
    if key is None:
        raise NotFoundError("no such key")
    return key


def get(reference: str) -> ApiKey:
    """The key with this id or prefix. Raises NotFoundError."""
    return transactions.read(lambda session: load(session, reference))


def find(*, cursor: str | None = None, per_page: int = 100) -> tuple[list[ApiKey], str | None]:
    """A page of all keys, revoked ones too, newest first, and the cursor of the next one."""
    query = select(ApiKey).order_by(ApiKey.id.desc()).limit(per_page + 1)
    if cursor:
        query = query.where(ApiKey.id < cursors.read(cursor, [int])[0])
    found = list(transactions.read(lambda session: session.scalars(query).all()))
    page = found[:per_page]
    return page, cursors.write(page[-1].id) if len(found) > per_page else None


def count_valid() -> tuple[int, int]:
    """How many keys are taken now, and how many of them are admin's."""
    is_valid = and_(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > db_now()))
    query = select(ApiKey.scopes).where(is_valid)
    found = transactions.read(lambda session: session.scalars(query).all())
    return len(found), sum(Scope.ADMIN in scopes for scopes in found)


def revoke(reference: str) -> ApiKey:
    """Have a key taken no longer, by other processes within REMEMBERED_SECONDS. A second call is harmless.

    Raises NotFoundError.
    """

    def work(session: Session) -> ApiKey:
        key_id = load(session, reference).id
        values = {"revoked_at": func.coalesce(ApiKey.revoked_at, db_now())}
        session.execute(update(ApiKey).where(ApiKey.id == key_id).values(values))
        return session.get_one(ApiKey, key_id, populate_existing=True)

    key = transactions.run(work)
    _remembered().clear()
    return key


def verify(text: str) -> Caller:
    """Whoever holds this key. One indexed read, and none while it is remembered. Raises AuthenticationError."""
    shape = KEY.fullmatch(text)
    if not shape:
        raise AuthenticationError("this key is not valid")
    digest = _digest(text)

    def look_up(session: Session) -> Any:
        found = session.execute(_with_validity().where(ApiKey.prefix == shape[1])).one_or_none()
        # Compared in constant time, so that nothing can be learnt about the digest from how long it takes.
        is_right = hmac.compare_digest(found[0].sha256 if found else "", digest)
        return found if is_right else None

    return _remember(digest, look_up)


def holder(key_id: int) -> Caller:
    """Whoever was let in with this key before, as long as it holds. Raises AuthenticationError."""
    return _remember(key_id, lambda session: session.execute(_with_validity().where(ApiKey.id == key_id)).one_or_none())


def _with_validity() -> Any:
    is_expired = func.coalesce(ApiKey.expires_at <= db_now(), False).label("is_expired")
    is_use_old = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < db_now(-USE_NOTED_SECONDS))
    return select(ApiKey, is_expired, is_use_old.label("is_use_old"))


def _remember(name: Hashable, look_up: Callable[[Session], Any]) -> Caller:
    remembered = _remembered()
    caller, until = remembered.get(name, (None, 0.0))
    if caller and time.monotonic() < until:
        return caller
    caller = _caller(transactions.read(look_up))
    if len(remembered) >= MOST_REMEMBERED:
        remembered.clear()
    remembered[name] = (caller, time.monotonic() + REMEMBERED_SECONDS)
    return caller


def _caller(found: Any) -> Caller:
    if found is None:
        raise AuthenticationError("this key is not valid")
    key, is_expired, is_use_old = found
    if key.revoked_at:
        raise AuthenticationError("this key was revoked")
    if is_expired:
        raise AuthenticationError("this key has expired")
    if is_use_old:
        _note_use(key.id)
    return Caller(key.owner_id, frozenset(map(Scope, key.scopes)), key.id, key.label)


def _note_use(key_id: int) -> None:
    """Best effort: who may come in does not wait for a database that cannot be written to."""
    is_use_old = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < db_now(-USE_NOTED_SECONDS))
    statement = update(ApiKey).where(ApiKey.id == key_id, is_use_old).values(last_used_at=db_now())
    try:
        transactions.run(lambda session: session.execute(statement))
    except UnavailableError as error:
        log.warning("use of key not noted", key_id=key_id, reason=str(error))


def _remembered() -> dict[Hashable, tuple[Caller, float]]:
    found: dict[Hashable, tuple[Caller, float]] = current_app.extensions.setdefault("remembered_keys", {})
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
