"""Logging in with an API key, and out again."""

from __future__ import annotations

from flask import Response, request, url_for

from app.domain import access
from app.errors import AuthenticationError
from app.extensions import settings
from app.web import auth
from app.web.pages.base import blueprint
from app.web.rendering import page, see
from app.web.requests import validated
from app.web.schemas import pages as schemas


@blueprint.get("/login", endpoint="login")
@auth.public
@validated
def ask(query: schemas.LoginQuery) -> Response:
    if access.current() is not access.STRANGER:
        return see(_onward(query.next))
    return page("login.html", next=query.next)


@blueprint.post("/login", endpoint="log_in")
@auth.public
@validated
def log_in(query: schemas.LoginQuery) -> Response:
    try:
        auth.log_in(request.form.get("key", ""))
    except AuthenticationError as error:
        return page("login.html", status=401, next=query.next, problem=str(error))
    return see(_onward(query.next))


@blueprint.post("/logout", endpoint="log_out")
@auth.public
def log_out() -> Response:
    auth.log_out()
    return see(url_for(".login") if settings.AUTH == "keys" else url_for("ops.index"))


def _onward(address: str | None) -> str:
    """Only within this site: an address of another one would make this page its stepping stone."""
    is_ours = address is not None and address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if address and is_ours else url_for("ops.index")
