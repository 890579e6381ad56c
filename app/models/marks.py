"""What the database knows of the storage."""

from __future__ import annotations

from sqlalchemy import SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import BYTEWISE, Base


class StorageMark(Base):
    """The one file that every host must see in its storage; there is one row, from the first use of the storage on."""

    __tablename__ = "storage_marks"
    __table_args__ = (BYTEWISE,)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(String(255))
