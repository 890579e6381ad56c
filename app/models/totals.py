"""What happened since the tables were made: numbers that only grow."""

from __future__ import annotations

from sqlalchemy import BigInteger, SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base


class Total(Base):
    """One part of a total, which is the sum over its slots; jobs that leave, or are retried, take nothing from it.

    Each process adds in a slot of its own, so that writers do not wait for each other.
    """

    __tablename__ = "totals"
    __table_args__ = (BYTEWISE,)

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    label: Mapped[str] = mapped_column(String(40), primary_key=True)  # the state, error code or source that is counted
    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(BigInteger)
