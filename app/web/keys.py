"""API keys, for callers with the scope admin."""

from __future__ import annotations

from typing import Any

from flask import Response, url_for
from flask_openapi import APIBlueprint, Tag

from app.domain import keys
from app.domain.keys import NewKey
from app.models import ApiKey
from app.web.auth import needs
from app.web.documents import keys as documents
from app.web.requests import answer, idempotency, validated
from app.web.schemas import keys as schemas

blueprint = APIBlueprint("keys", __name__, abp_tags=[Tag(name="keys", description="Who may use this service")])


@blueprint.post("/api/keys", **documents.create)
@needs("admin")
@validated
def create(body: schemas.KeyBody) -> Response:
    """Make a key; it is shown this once."""
    new = NewKey(body.label, frozenset(body.scopes), body.same_owner_as, body.days)
    made = keys.create(new, idempotency())
    shown = schemas.NewKeyAnswer(**_fields(made.key), key=made.text)
    return answer(shown, 201, {"Location": url_for("keys.get", key_id=made.key.id), "Cache-Control": "no-store"})


@blueprint.get("/api/keys", **documents.find)
@needs("admin")
@validated
def find(query: schemas.KeysQuery) -> Response:
    """All keys, newest first, those that were revoked too."""
    found, following = keys.find(cursor=query.cursor, per_page=query.per_page)
    return answer(schemas.KeysAnswer(results=[schemas.KeyAnswer(**_fields(key)) for key in found], next=following))


@blueprint.get("/api/keys/<int:key_id>", **documents.get)
@needs("admin")
@validated
def get(path: schemas.KeyPath) -> Response:
    """One key."""
    return answer(schemas.KeyAnswer(**_fields(keys.get(str(path.key_id)))))


@blueprint.post("/api/keys/<int:key_id>/revoke", **documents.revoke)
@needs("admin")
@validated
def revoke(path: schemas.KeyPath) -> Response:
    """Have a key taken no longer; its jobs stay. A second time is harmless."""
    return answer(schemas.KeyAnswer(**_fields(keys.revoke(str(path.key_id)))))


def _fields(key: ApiKey) -> dict[str, Any]:
    names = ("id", "prefix", "label", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")
    return {name: getattr(key, name) for name in names} | {"owner": key.owner_id}
