"""Who is asking, found out before each request, and whether they may.

A route says what it needs: ``@needs("submit")``, ``@needs("read")``, ``@needs("admin")`` or ``@public``, anywhere among
its decorators. One that says nothing needs "read" for GET and "submit" for anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, current_app, request

from app.domain import access
from app.domain.access import Scope
from app.errors import ForbiddenError

View = TypeVar("View", bound=Callable[..., Any])
HARMLESS_METHODS = ("GET", "HEAD", "OPTIONS")
# Answered to everybody: what a browser needs to show a page at all.
PUBLIC_ENDPOINTS = ("static", "docs.static", "assets.static", "bootstrap.static")


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


def register(app: Flask) -> None:
    app.before_request(_identify)
    app.before_request(_admit)


def _identify() -> None:
    access.enter(access.SERVICE)


def _admit() -> None:
    """Raises ForbiddenError where the caller may not what the route needs."""
    if request.endpoint is None:
        return  # no such address, whoever asks
    wanted = needed(request.endpoint, request.method)
    if wanted and not access.current().may(wanted):
        raise ForbiddenError(f"this key may not do that: it lacks the scope {wanted}")


def needed(endpoint: str, method: str) -> Scope | None:
    """The scope that a route needs; None where it is public."""
    if endpoint in PUBLIC_ENDPOINTS:
        return None
    default = Scope.READ if method in HARMLESS_METHODS else Scope.SUBMIT
    scope: Scope | None = getattr(current_app.view_functions[endpoint], "__needs__", default)
    return scope
