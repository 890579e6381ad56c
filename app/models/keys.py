"""API keys."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base
from app.sql import BigId


class ApiKey(Base):
    """A key, without its secret. Rows are never deleted: an owner's id must not be given to somebody else."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "owner_id"), BYTEWISE)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    owner_id: Mapped[int] = mapped_column(BigInteger)  # the id of the owner's first key; jobs name it
    prefix: Mapped[str] = mapped_column(String(16), unique=True)  # its beginning, by which it is found and shown
    sha256: Mapped[str] = mapped_column(String(64))  # of the whole key
    label: Mapped[str] = mapped_column(String(100))
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]  # to the minute
