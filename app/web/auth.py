"""Who is asking, found out before each request, and whether they may.

A route says what it needs: ``@needs("submit")``, ``@needs("read")``, ``@needs("admin")`` or ``@public``, below the
decorator that makes it one. One that says nothing needs "read" for GET and "submit" for anything else.

With AUTH=keys a caller is known by an API key in a header, or by the session that ``log_in`` has begun with one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, current_app, g, request, session

from app.domain import access, keys
from app.domain.access import Caller, Scope
from app.errors import AuthenticationError, ForbiddenError
from app.extensions import settings
from app.web import sessions

View = TypeVar("View", bound=Callable[..., Any])
HARMLESS_METHODS = ("GET", "HEAD", "OPTIONS")
# Answered to everybody: what a browser needs to show a page at all.
PUBLIC_ENDPOINTS = ("static", "docs.static", "assets.static", "bootstrap.static")
SESSION_KEY = "key"
NO_KEY = "an API key is needed: send it as Authorization: Bearer KEY"


def needs(scope: str) -> Callable[[View], View]:
    """The route is for callers with this scope."""
    wanted = Scope(scope)

    def mark(view: View) -> View:
        view.__needs__ = wanted  # type: ignore[attr-defined]
        return view

    return mark


def public(view: View) -> View:
    """The route is for everybody."""
    view.__needs__ = None  # type: ignore[attr-defined]
    return view


def register_identity(app: Flask) -> None:
    app.before_request(_identify)


def register_admission(app: Flask) -> None:
    """After what must know who is asking, and counts those too that are not let in."""
    app.before_request(_admit)


def log_in(key: str) -> Caller:
    """Let the browser in, until it logs out, its session is over or the key holds no longer.

    Raises AuthenticationError.
    """
    caller = keys.verify(key.strip())
    session.clear()
    session[SESSION_KEY] = caller.key_id
    access.enter(caller)
    return caller


def log_out() -> None:
    session.clear()


def _identify() -> None:
    """Enter the caller; one who cannot be told stays a stranger, and ``_admit`` says why where it matters."""
    g.refusal = None
    try:
        access.enter(_caller())
    except AuthenticationError as error:
        access.enter(access.STRANGER)
        g.refusal = error


def _caller() -> Caller:
    if settings.AUTH == "open":
        return access.SERVICE
    key = _sent_key()
    if key is not None:
        return keys.verify(key)
    if sessions.COOKIE in request.cookies and SESSION_KEY in session:
        return keys.holder(session[SESSION_KEY])
    raise AuthenticationError(NO_KEY)


def _sent_key() -> str | None:
    """The key in one of the headers that clients know how to send."""
    key = request.headers.get("X-API-Key")
    if key is not None:
        return key.strip()
    sent = request.authorization
    if sent is None:
        return None
    if sent.type == "basic":
        # From https://KEY@host/ in a client that knows addresses only, or as a password.
        return sent.password or sent.username or ""
    return (sent.token or "").strip() if sent.type == "bearer" else ""


def _admit() -> None:
    """Raises AuthenticationError or ForbiddenError where the caller may not what the route needs."""
    if request.endpoint is None:
        return  # no such address, whoever asks
    wanted = needed(request.endpoint, request.method)
    if wanted is None:
        return
    if g.refusal:
        raise g.refusal
    if not access.current().may(wanted):
        raise ForbiddenError(f"this key may not do that: it lacks the scope {wanted}")


def needed(endpoint: str, method: str) -> Scope | None:
    """The scope that a route needs; None where it is public."""
    if endpoint in PUBLIC_ENDPOINTS:
        return None
    default = Scope.READ if method in HARMLESS_METHODS else Scope.SUBMIT
    scope: Scope | None = getattr(current_app.view_functions[endpoint], "__needs__", default)
    return scope
