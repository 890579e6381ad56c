"""Files that somebody asked for and a worker builds."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Index, SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base, stored


class ExportState(StrEnum):
    BUILDING = "building"  # or waiting for a worker
    DONE = "done"
    FAILED = "failed"


class Export(Base):
    """A workbook of visits, of those that whoever asked for it saw."""

    __tablename__ = "exports"
    __table_args__ = (Index(None, "due_at"), Index(None, "created_at"), Index(None, "storage_key"), BYTEWISE)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)  # random
    owner_id: Mapped[int | None] = mapped_column(BigInteger)
    sees_all: Mapped[bool]  # it holds visits of everybody, so only who sees those may have it
    asked: Mapped[dict[str, Any]]  # which visits, and how they are shown
    state: Mapped[ExportState] = mapped_column(stored(ExportState))
    rows_total: Mapped[int] = mapped_column(BigInteger)  # about: visits settle while it is built
    rows_done: Mapped[int] = mapped_column(BigInteger, server_default="0")
    storage_key: Mapped[str | None] = mapped_column(String(255))
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[datetime]
    built_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]  # NULL: nothing is to do
    claim: Mapped[int] = mapped_column(server_default="0")
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
