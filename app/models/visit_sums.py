"""What settled visits add up to, so that a table of a year does not read its visits."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base, stored
from app.models.jobs import VisitState
from app.sql import BigId, db_now


class Grain(StrEnum):
    """What one sum is of."""

    STORE_DAY = "store_day"
    STORE_MONTH = "store_month"
    DAY = "day"  # all stores together


class VisitSum(Base):
    """The settled visits of one grain, of one owner, that ended alike. Written by ``visit_sums.fold`` alone."""

    __tablename__ = "visit_sums"
    __table_args__ = (
        Index("ix_visit_sums_store", "store_id", "grain", "first_day"),
        BYTEWISE | {"sqlite_with_rowid": False},
    )

    grain: Mapped[Grain] = mapped_column(stored(Grain), primary_key=True)
    first_day: Mapped[date] = mapped_column(primary_key=True)  # of the day or month, in UTC
    store_id: Mapped[str] = mapped_column(String(64), primary_key=True)  # "" where it is of all stores
    state: Mapped[VisitState] = mapped_column(stored(VisitState), primary_key=True)  # never OPEN
    error_code: Mapped[str] = mapped_column(String(32), primary_key=True)  # "" where no image failed
    owner_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # 0: nobody
    visits: Mapped[int] = mapped_column(BigInteger)
    images: Mapped[int] = mapped_column(BigInteger)
    images_failed: Mapped[int] = mapped_column(BigInteger)
    perimeter: Mapped[int] = mapped_column(BigInteger)


class VisitChange(Base):
    """What is not in the sums yet: visits that were settled (+), or opened again or deleted (-).

    Rows are only ever added, in the transaction of what they tell, so nobody waits for anybody there.
    """

    __tablename__ = "visit_changes"
    __table_args__ = (BYTEWISE,)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    day: Mapped[date]
    store_id: Mapped[str] = mapped_column(String(64))
    state: Mapped[VisitState] = mapped_column(stored(VisitState))
    error_code: Mapped[str] = mapped_column(String(32))
    owner_id: Mapped[int] = mapped_column(BigInteger)
    visits: Mapped[int]
    images: Mapped[int] = mapped_column(BigInteger)
    images_failed: Mapped[int] = mapped_column(BigInteger)
    perimeter: Mapped[int] = mapped_column(BigInteger)
    noted_at: Mapped[datetime | None] = mapped_column(default=db_now())  # NULL: by a release that did not say
