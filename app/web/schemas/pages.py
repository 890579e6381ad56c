"""What the addresses of pages say; wrong values get a page with the sentence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.domain.visit_groups import Group
from app.domain.visit_tables import Sort
from app.models import DeliveryState, ImageState, JobState, VisitState
from app.web import fields
from app.web.schemas.base import Request, RowNumber


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
    visit: RowNumber | None = None
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


class PeriodQuery(Request):
    """Filters that several pages share; without bounds the last days that have data are meant."""

    start: fields.RangeStart | None = None
    end: fields.RangeEnd | None = None
    area: fields.Text | None = None
    store: fields.StoreId | None = None


class OverviewQuery(PeriodQuery):
    silent: int = Field(7, ge=1, le=3650, description="Days without a visit after which a store counts as silent.")


class StoresQuery(Request):
    search: fields.Text | None = None
    area: fields.Text | None = None
    cursor: str | None = None


class LoadedQuery(Request):
    """What a load came to, told on the page that it leads to."""

    added: int | None = None
    changed: int | None = None
    unchanged: int | None = None
    refused: int | None = None


class StorePath(Request):
    store_id: str


class StoreQuery(Request):
    start: fields.RangeStart | None = None
    end: fields.RangeEnd | None = None


class VisitsQuery(PeriodQuery):
    job: RowNumber | None = None
    state: VisitState | None = None
    group: Group | None = None
    sort: Sort = Sort.NEWEST
    order: Literal["visits", "failed", "perimeter"] | None = None
    cursor: str | None = None
    page: int = Field(1, ge=1, le=100_000)


class ExportPath(Request):
    export_id: str


class WebhooksQuery(Request):
    job: RowNumber | None = Field(None, description="The callback of this job, in place of subscriptions.")
    cursor: str | None = None


class WebhookPath(Request):
    webhook_id: int


class WebhookQuery(Request):
    state: DeliveryState | None = None
    cursor: str | None = None


class DeliveryPath(Request):
    delivery_id: int


class KeysQuery(Request):
    cursor: str | None = None


class KeyPath(Request):
    key_id: int


class LoginQuery(Request):
    next: str | None = Field(None, max_length=2000, description="Where to go then, within this site.")
