"""Worker processes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Double, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base


class Worker(Base):
    """A worker process, as it last told: gone where ``seen_at`` is old, stuck where ``progressed_at`` is."""

    __tablename__ = "workers"
    __table_args__ = (BYTEWISE,)

    name: Mapped[str] = mapped_column(String(100), primary_key=True)  # as in chunks.claimed_by
    host: Mapped[str] = mapped_column(String(80))
    pid: Mapped[int]
    version: Mapped[str] = mapped_column(String(40))
    slots: Mapped[int]
    in_flight: Mapped[int]  # images held without a result
    settled: Mapped[int] = mapped_column(BigInteger)  # results written since its start
    rate: Mapped[float] = mapped_column(Double, server_default="0")  # results a second, since the beat before
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    progressed_at: Mapped[datetime]  # when ``settled`` last went up, or it held nothing
