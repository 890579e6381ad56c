"""Who is asking, and what of what there is they see.

Within a request the web layer says who is asking (``enter``). Outside one (workers, the recover loop, commands on a
host of the service) it is the service itself, which sees all. What belongs to somebody else is answered as what does
not exist: ``jobs.load`` raises the same NotFoundError, lists narrow by ``is_visible``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from flask import g, has_request_context
from sqlalchemy import ColumnElement, false, true

from app.models import Job


class Scope(StrEnum):
    """What a key may do. ADMIN includes the others and sees what belongs to everybody; no other includes another."""

    SUBMIT = "submit"  # create jobs and other things, and change them
    READ = "read"  # see what became of them
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """``owner_id`` is whom their jobs belong to; None: nobody in particular."""

    owner_id: int | None
    scopes: frozenset[Scope]
    key_id: int | None = None  # the key that they showed
    label: str = ""

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def sees_all(self) -> bool:
        return Scope.ADMIN in self.scopes

    def sees(self, owner_id: int | None) -> bool:
        """Whether they see what belongs to this owner."""
        return self.sees_all or (self.owner_id is not None and self.owner_id == owner_id)


# The service itself, and everybody on this host where AUTH=open.
SERVICE = Caller(None, frozenset(Scope))
# A request of which nothing is known yet: sees and may nothing.
STRANGER = Caller(None, frozenset())
NO_OWNER = 0  # in columns that cannot be NULL
_acting_for: ContextVar[Caller] = ContextVar("acting_for", default=SERVICE)


def current() -> Caller:
    """Whoever is asking."""
    if not has_request_context():
        return _acting_for.get()
    caller: Caller = g.get("caller", STRANGER)
    return caller


def enter(caller: Caller) -> None:
    """From here on the current request is this caller's."""
    g.caller = caller


def acting_for(owner_id: int | None) -> AbstractContextManager[None]:
    """Outside a request, until the end of the block: what is created belongs to this owner, in whose name it is."""
    return acting_as(Caller(owner_id, SERVICE.scopes))


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Outside a request, until the end of the block: what is there is what this caller sees."""
    token = _acting_for.set(caller)
    try:
        yield
    finally:
        _acting_for.reset(token)


def is_visible(owned: Any = Job) -> ColumnElement[bool]:
    """The condition that a row of ``owned``, a table with an owner_id, is the caller's to see."""
    caller = current()
    if caller.sees_all:
        return true()
    # With NULL it would become IS NULL, which is what belongs to nobody.
    return false() if caller.owner_id is None else owned.owner_id == caller.owner_id
