"""What each owner was given of the workers."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base


class Share(Base):
    """Virtual times of fair queueing: images given out, by less the higher the priority of their job."""

    __tablename__ = "shares"
    __table_args__ = (BYTEWISE,)

    owner_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # 0: jobs without one
    turn: Mapped[int] = mapped_column(BigInteger)  # when it is next: the owner with the least one
    # When it was last served: the latest of all owners is the time that the queue has reached.
    served: Mapped[int] = mapped_column(BigInteger, index=True)
    job_turn: Mapped[int] = mapped_column(BigInteger)  # the time that its own jobs have reached among each other
