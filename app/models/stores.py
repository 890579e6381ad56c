"""The store master."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base


class Store(Base):
    __tablename__ = "stores"
    __table_args__ = (Index(None, "area", "id"), Index(None, "name"), BYTEWISE)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    area: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
