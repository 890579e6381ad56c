"""API keys."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.domain.access import Scope
from app.domain.keys import DEFAULT_SCOPES
from app.web import fields
from app.web.schemas.base import Request, Shown


class KeyBody(Request):
    label: fields.Label = Field("", description="To know it by.", examples=["till system, area 710006"])
    scopes: list[Scope] = Field(sorted(DEFAULT_SCOPES), min_length=1, description="What it may do; `admin` is all.")
    same_owner_as: fields.Text | None = Field(
        None,
        description="Id or prefix of a key whose jobs it is to see too, to replace that one for example.",
        examples=["ij_k2x9qf7w"],
    )
    days: int | None = Field(None, ge=1, le=36_500, description="That it is valid; for good unless given.")


class KeyPath(Request):
    key_id: int = Field(description="The key's number.")


class KeysQuery(Request):
    per_page: int = Field(100, ge=1, le=1000, description="Most keys a page.")
    cursor: str | None = Field(None, description="`next` of the page before.")


class KeyAnswer(BaseModel):
    id: int
    prefix: str
    label: str
    scopes: list[Scope]
    owner: int = Field(description="Keys with the same number see the same jobs.")
    created_at: Shown
    expires_at: Shown | None
    revoked_at: Shown | None
    last_used_at: Shown | None = Field(description="To the minute.")


class NewKeyAnswer(KeyAnswer):
    key: str | None = Field(description="The key itself. It is shown this once; null where a request is repeated.")


class KeysAnswer(BaseModel):
    results: list[KeyAnswer]
    next: str | None = Field(description="The cursor of the next page; null at the end.")
