"""Requests that are remembered."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base


class IdempotencyKey(Base):
    """What the first request with an Idempotency-Key came to; written in the transaction of what it did."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "created_at"), BYTEWISE)

    owner_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # 0: nobody in particular
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[int] = mapped_column(BigInteger)
    answer: Mapped[dict[str, Any] | None]  # where the job's number does not say it all
    created_at: Mapped[datetime]
