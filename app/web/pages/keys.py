"""API keys, for those who may everything: list, make, revoke."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, request, url_for

from app.domain import keys
from app.domain.access import Scope
from app.domain.keys import NewKey
from app.errors import ConflictError, InvalidRequestError
from app.web import forms
from app.web.auth import needs
from app.web.pages.base import blueprint
from app.web.rendering import page, see
from app.web.requests import read_part, validated
from app.web.schemas import pages as schemas
from app.web.schemas.keys import KeyBody

KEYS_A_PAGE = 50
SCOPES = {
    Scope.READ: "see jobs, visits and results",
    Scope.SUBMIT: "create and change jobs, photos and webhooks",
    Scope.ADMIN: "everything, of everybody",
}


@blueprint.get("/keys", endpoint="keys")
@needs("admin")
@validated
def find_keys(query: schemas.KeysQuery) -> Response:
    return _list(query)


@blueprint.post("/keys", endpoint="create_key")
@needs("admin")
def create_key() -> Response:
    """The page that it leads to shows the key, this once; a second click makes no second key, and shows none."""
    days = request.form.get("days", "").strip()
    sent: dict[str, Any] = {
        "label": request.form.get("label", "").strip(),
        "scopes": request.form.getlist("scopes"),
        "same_owner_as": request.form.get("same_owner_as", "").strip() or None,
        "days": int(days) if days.isdecimal() and days.isascii() else days or None,
    }
    try:
        body = read_part(KeyBody, json.dumps(sent).encode())
        new = NewKey(body.label, frozenset(body.scopes), body.same_owner_as, body.days)
        made = keys.create(new, forms.name())
    except (InvalidRequestError, ConflictError) as error:
        return _list(schemas.KeysQuery.model_validate({}), status=400, problem=str(error), form=sent)
    answer = page("keys/made.html", section="pages.keys", key=made.key, text=made.text)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _list(query: schemas.KeysQuery, *, status: int = 200, **form: Any) -> Response:
    found, following = keys.find(cursor=query.cursor, per_page=KEYS_A_PAGE)
    return page(
        "keys/list.html",
        status=status,
        section="pages.keys",
        found=found,
        next=following,
        scopes=SCOPES,
        token=forms.token(),
        **({"form": {"scopes": [scope.value for scope in keys.DEFAULT_SCOPES]}} | form),
    )


@blueprint.get("/keys/<int:key_id>/revoke", endpoint="ask_revoke_key")
@needs("admin")
@validated
def ask_revoke(path: schemas.KeyPath) -> Response:
    key = keys.get(str(path.key_id))
    return page("keys/revoke.html", section="pages.keys", key=key)


@blueprint.post("/keys/<int:key_id>/revoke", endpoint="revoke_key")
@needs("admin")
@validated
def revoke(path: schemas.KeyPath) -> Response:
    keys.revoke(str(path.key_id))
    return see(url_for(".keys"))
