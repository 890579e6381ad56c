"""What is still to be told on lists of Redis."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base
from app.sql import BigId


class FeedItem(Base):
    """An image that was settled, and of which nobody is known to have taken the entry off its list."""

    __tablename__ = "feed_items"
    __table_args__ = (
        Index("ix_feed_items_queue", "queue", "position", "job_id", "id"),
        Index(None, "job_id"),
        BYTEWISE,
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    queue: Mapped[str] = mapped_column(String(16))
    job_id: Mapped[int] = mapped_column(BigInteger)
    seq: Mapped[int]
    # Which entry of all that were ever put on the list holds it; NULL: none yet, or one that Redis has lost.
    position: Mapped[int | None] = mapped_column(BigInteger)
    tensor: Mapped[bytes | None] = mapped_column(LargeBinary)
