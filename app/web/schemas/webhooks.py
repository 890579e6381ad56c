"""Webhooks: who is told of what, and what was sent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, StrictBool

from app import signatures
from app.models import DeliveryState
from app.web import fields
from app.web.schemas.base import Request, RowNumber, Shown

Event = Literal["job.completed", "job.failed", "visit.settled"]
SECRET_WORDS = "`whsec_` and 24 to 64 bytes in base64"


def _is_secret(secret: str) -> str:
    signatures.read_secret(secret)
    return secret


def _each_once(events: list[Event]) -> list[Event]:
    return list(dict.fromkeys(events))


Secret = Annotated[str, AfterValidator(_is_secret)]
Events = Annotated[list[Event], Field(min_length=1, max_length=10), AfterValidator(_each_once)]


class WebhookBody(Request):
    url: fields.Url = Field(description="Where to POST messages to.", examples=["https://example.com/hooks/imagejobs"])
    events: Events = Field(["job.completed", "job.failed"], description="What to tell of.")
    secret: Secret | None = Field(None, description=f"{SECRET_WORDS}; one is made unless given.")
    enabled: StrictBool = Field(True, description="Whether anything is sent.")
    description: fields.Text | None = None


class WebhookChange(Request):
    url: fields.Url | None = None
    events: Events | None = None
    secret: Secret | None = Field(None, description=f"{SECRET_WORDS}. The one before signs too for a day.")
    enabled: StrictBool | None = None
    description: fields.Text | None = None


class WebhookPath(Request):
    webhook_id: int


class DeliveryPath(Request):
    delivery_id: int


class WebhooksQuery(Request):
    job_id: RowNumber | None = Field(None, description="The callback_url of this job, in place of subscriptions.")
    per_page: int = Field(50, ge=1, le=1000)
    cursor: str | None = Field(None, description="`next` of the page before.")


class DeliveriesQuery(Request):
    state: DeliveryState | None = Field(None, description="Only deliveries in this state.")
    per_page: int = Field(50, ge=1, le=1000)
    cursor: str | None = Field(None, description="`next` of the page before.")


class WebhookLinks(BaseModel):
    self: str
    deliveries: str


class WebhookAnswer(BaseModel):
    """Who is told of what."""

    webhook_id: int
    url: str
    events: list[str]
    enabled: bool
    disabled_reason: str | None = Field(description="Where the service did it: the receiver said that it is gone.")
    description: str | None
    job_id: int | None = Field(description="The one job that it is told of, whose callback_url it is; null: of all.")
    failing_since: Shown | None = Field(description="Since when no message has arrived; null while the last one did.")
    last_error: str | None
    created_at: Shown
    updated_at: Shown
    links: WebhookLinks


class WebhookWithSecret(WebhookAnswer):
    """... with what its messages are signed with, which is shown this once."""

    secret: str


class WebhooksAnswer(BaseModel):
    results: list[WebhookAnswer]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class Try(BaseModel):
    """One attempt to deliver a message."""

    at: str
    seconds: float
    status: int | None = Field(description="What the receiver answered.")
    error: str | None = Field(description="A code; null where it took the message.")
    message: str | None = Field(description="The begin of what it answered, or why it did not.")


class DeliveryAnswer(BaseModel):
    """A message, and whether it has arrived."""

    delivery_id: int
    webhook_id: int
    message_id: str = Field(description="The `webhook-id` of the message, the same in each attempt.")
    event: str
    job_id: int | None
    visit: int | None
    version: int
    state: DeliveryState
    attempts: int
    next_attempt_at: Shown | None
    created_at: Shown
    finished_at: Shown | None
    tries: list[Try] = Field(description="The last of them, at most 20.")
    payload: dict[str, Any] | None = Field(default=None, description="What is sent; where one delivery is asked for.")


class DeliveriesAnswer(BaseModel):
    results: list[DeliveryAnswer]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class TestAnswer(BaseModel):
    delivery_id: int
