"""What the addresses of pages say; wrong values get a page with the sentence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.models import ImageState, JobState
from app.web import fields
from app.web.schemas.base import Request


class JobPath(Request):
    job_id: int


class ImagePath(Request):
    job_id: int
    seq: int


class JobsQuery(Request):
    state: JobState | None = None
    store: fields.StoreId | None = None
    start: fields.RangeStart | None = None
    end: fields.RangeEnd | None = None
    cursor: str | None = None


class JobQuery(Request):
    state: ImageState | None = None
    code: fields.Text | None = None
    cursor: str | None = None
    did: Literal["retried", "cancelled", "stopping", "submitted"] | None = Field(
        None, description="What led to this page."
    )
    images: int | None = None


class PageQuery(Request):
    page: int = Field(1, ge=1, le=100_000)


class RetryQuery(Request):
    code: fields.Text | None = None
    store: fields.StoreId | None = None
    cancelled: bool = False
