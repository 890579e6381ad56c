"""What became of each image of a job."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain import cursors, jobs, transactions
from app.models import Image, ImageState


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Which images of a job; None does not narrow."""

    state: ImageState | None = None
    error_code: str | None = None


def find_images(
    job_id: int, wanted: ImageFilter, *, cursor: str | None, per_page: int
) -> tuple[list[Image], str | None]:
    """A page of a job's images in the order as sent, and the cursor of the next one. Raises NotFoundError."""
    after = cursors.read(cursor, [int])[0] if cursor else -1
    conditions = [Image.job_id == job_id, Image.seq > after]
    if wanted.state:
        conditions.append(Image.state == wanted.state)
    if wanted.error_code:
        conditions.append(Image.error_code == wanted.error_code)
    query = select(Image).where(*conditions).order_by(Image.seq).limit(per_page + 1)

    def read(session: Session) -> list[Image]:
        jobs.load(session, job_id)
        return list(session.scalars(query))

    found = transactions.read(read)
    page = found[:per_page]
    return page, cursors.write(page[-1].seq) if len(found) > per_page else None
