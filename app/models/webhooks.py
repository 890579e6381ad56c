"""Who is told of what, and what is still to be told."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base, stored
from app.sql import BigId

ALL_JOBS = 0


class DeliveryState(StrEnum):
    PENDING = "pending"  # to be sent, or sent again
    DELIVERED = "delivered"  # the receiver answered with 2xx
    FAILED = "failed"  # given up


class Webhook(Base):
    """An address that is told of events: of all jobs of its owner, or of one job, which then named it when it came."""

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "job_id", "owner_id"), BYTEWISE)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    owner_id: Mapped[int | None] = mapped_column(BigInteger)
    job_id: Mapped[int] = mapped_column(BigInteger)  # ALL_JOBS, or the one whose callback_url it is
    url: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(String(262))  # host:port of the URL
    # As it is, since messages are signed with it; no answer but that of its making ever holds it.
    secret: Mapped[str] = mapped_column(String(120))
    secret_before: Mapped[str | None] = mapped_column(String(120))  # signs too for a day after a change
    secret_changed_at: Mapped[datetime | None]
    events: Mapped[str] = mapped_column(String(255))  # their names, joined by commas
    is_enabled: Mapped[bool]
    disabled_reason: Mapped[str | None] = mapped_column(String(300))  # where the service did it by itself
    description: Mapped[str | None] = mapped_column(String(255))
    failing_since: Mapped[datetime | None]  # when the first try failed since the last that did not
    last_error: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Delivery(Base):
    """One event for one receiver, written in the transaction in which it happened."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(None, "due_at", "host"),  # what the sender looks for, past hosts that are busy
        Index(None, "webhook_id", "id"),
        Index(None, "job_id"),  # by which it leaves with its job
        BYTEWISE,
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    webhook_id: Mapped[int] = mapped_column(BigInteger)
    host: Mapped[str] = mapped_column(String(262))  # the webhook's when this was written
    job_id: Mapped[int] = mapped_column(BigInteger)  # 0 where it is about no job
    visit_seq: Mapped[int | None]
    event: Mapped[str] = mapped_column(String(32))
    version: Mapped[int]  # of the job or visit: a retry ends it once more
    data: Mapped[dict[str, Any]]  # what was so when it happened
    state: Mapped[DeliveryState] = mapped_column(stored(DeliveryState))
    attempts: Mapped[int]  # in all
    attempts_before: Mapped[int]  # those before it was last redelivered by hand
    # When to send, or when the lease of the one who is sending ends. NULL: nothing is left to do.
    due_at: Mapped[datetime | None]
    claim: Mapped[str | None] = mapped_column(String(32))  # fencing token; NULL while nobody is sending
    tries: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON)  # the last of them
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
