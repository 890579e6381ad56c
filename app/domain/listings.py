"""What became of each image of a job, and why images failed."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from app.domain import cursors, jobs, transactions
from app.models import Image, ImageState

EXAMPLES_A_CODE = 3


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Which images of a job; None does not narrow."""

    state: ImageState | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    seq: int
    url: str | None
    message: str | None


@dataclass(slots=True)
class ErrorGroup:
    """The failed images of a job that have one error code."""

    code: str
    images: int
    examples: list[Example] = field(default_factory=list)


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


def find_errors(job_id: int) -> list[ErrorGroup]:
    """Failed images of a job by error code, the most frequent first. Reads no image unless one failed.

    Raises NotFoundError.
    """
    return transactions.read(lambda session: _find_errors(session, job_id))


def _find_errors(session: Session, job_id: int) -> list[ErrorGroup]:
    if not jobs.load(session, job_id).images_failed:
        return []
    failed = (
        select(
            Image.error_code,
            Image.seq,
            func.count().over(partition_by=Image.error_code).label("images"),
            func.row_number().over(partition_by=Image.error_code, order_by=Image.seq).label("place"),
        )
        .where(Image.job_id == job_id, Image.state == ImageState.FAILED)
        .subquery()
    )
    query = (
        select(failed.c.error_code, failed.c.images, Image.seq, Image.url, Image.error_message)
        .join(Image, and_(Image.job_id == job_id, Image.seq == failed.c.seq))
        .where(failed.c.place <= EXAMPLES_A_CODE)
        .order_by(failed.c.images.desc(), failed.c.error_code, Image.seq)
    )
    groups: dict[str, ErrorGroup] = {}
    for row in session.execute(query):
        group = groups.setdefault(row.error_code, ErrorGroup(row.error_code, row.images))
        group.examples.append(Example(row.seq, row.url, row.error_message))
    return list(groups.values())
