"""What became of each image of a job, and why images failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session

from app.domain import cursors, jobs, transactions
from app.errors import NotFoundError
from app.models import Image, ImageState, Job, Store, Visit

EXAMPLES_A_CODE = 3
IMAGES_A_SLICE = 2000


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Which images of a job; None does not narrow."""

    state: ImageState | None = None
    error_code: str | None = None
    visit_seq: int | None = None


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


class StoreCounts(NamedTuple):
    """What became of a job's images of one store; the error is that of its first image that failed."""

    store_id: str
    name: str | None  # None: not in the store master
    visits: int
    images: int
    open: int
    failed: int
    cancelled: int
    perimeter: int
    error_code: str | None
    error_message: str | None


class SentVisit(NamedTuple):
    seq: int
    store_id: str
    visited_as_sent: str


@dataclass(frozen=True, slots=True)
class ImageInContext:
    """An image with the job and, where it has them, the visit and the store that it belongs to."""

    job: Job
    image: Image
    visit: Visit | None
    store: Store | None


def get_image(job_id: int, seq: int) -> ImageInContext:
    """One image of a job. Raises NotFoundError."""
    return transactions.read(lambda session: _get_image(session, job_id, seq))


def rebuild_request(job_id: int) -> Iterator[tuple[SentVisit, list[str]]]:
    """The visits of a job by URLs in the order as sent, each with its URLs; read in slices, however many there are."""
    query = (
        select(Image.seq, Image.visit_seq, Image.url, Visit.store_id, Visit.visited_as_sent)
        .join(Visit, and_(Visit.job_id == Image.job_id, Visit.seq == Image.visit_seq))
        .where(Image.job_id == job_id)
        .order_by(Image.seq)
        .limit(IMAGES_A_SLICE)
    )
    visit: SentVisit | None = None
    urls: list[str] = []
    after = -1
    while rows := _read_all(query.where(Image.seq > after)):
        for row in rows:
            here = SentVisit(row.visit_seq, row.store_id, row.visited_as_sent)
            if visit is not None and here != visit:
                yield visit, urls
                urls = []
            visit = here
            urls.append(row.url)
        after = rows[-1].seq
    if visit is not None:
        yield visit, urls


def _read_all(query: Any) -> Sequence[Any]:
    return transactions.read(lambda session: session.execute(query).all())


def _get_image(session: Session, job_id: int, seq: int) -> ImageInContext:
    job = jobs.load(session, job_id)
    image = session.get(Image, (job_id, seq)) if 0 <= seq < job.images_total else None
    if image is None:
        raise NotFoundError("no such image")
    visit = None if image.visit_seq is None else session.get(Visit, (job_id, image.visit_seq))
    return ImageInContext(job, image, visit, session.get(Store, visit.store_id) if visit else None)


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
    if wanted.visit_seq is not None:
        conditions.append(Image.visit_seq == wanted.visit_seq)
    query = select(Image).where(*conditions).order_by(Image.seq).limit(per_page + 1)

    def read(session: Session) -> list[Image]:
        jobs.load(session, job_id)
        return list(session.scalars(query))

    found = transactions.read(read)
    page = found[:per_page]
    return page, cursors.write(page[-1].seq) if len(found) > per_page else None


def count_errors(job_id: int) -> dict[str, int]:
    """Failed images of a job by error code, the most frequent first; reads no image unless one failed.

    Raises NotFoundError.
    """
    images = func.count()
    query = (
        select(Image.error_code, images)
        .where(Image.job_id == job_id, Image.state == ImageState.FAILED)
        .group_by(Image.error_code)
        .order_by(images.desc(), Image.error_code)
    )

    def read(session: Session) -> dict[str, int]:
        has_failed = jobs.load(session, job_id).images_failed
        return {row[0] or "": row[1] for row in session.execute(query)} if has_failed else {}

    return transactions.read(read)


def find_stores(job_id: int, *, page: int, per_page: int) -> tuple[list[StoreCounts], bool]:
    """A page of a job's stores, those with most failed images first, and whether there are more.

    Raises NotFoundError.
    """
    failed = func.sum(Visit.images_failed)
    totals = (
        select(
            Visit.store_id,
            func.count().label("visits"),
            func.sum(Visit.images_total).label("images"),
            func.sum(Visit.images_open).label("open"),
            failed.label("failed"),
            func.sum(Visit.images_cancelled).label("cancelled"),
            func.sum(Visit.perimeter).label("perimeter"),
            func.min(case((Visit.error_code.is_not(None), Visit.seq))).label("error_seq"),
        )
        .where(Visit.job_id == job_id)
        .group_by(Visit.store_id)
        .order_by(failed.desc(), Visit.store_id)
        .offset((page - 1) * per_page)
        .limit(per_page + 1)
        .subquery()
    )
    first_error = and_(Visit.job_id == job_id, Visit.seq == totals.c.error_seq)
    query = (
        select(totals, Store.name, Visit.error_code, Visit.error_message)
        .outerjoin(Store, Store.id == totals.c.store_id)
        .outerjoin(Visit, first_error)
    )

    def read(session: Session) -> list[Any]:
        jobs.load(session, job_id)
        return list(session.execute(query.order_by(totals.c.failed.desc(), totals.c.store_id)))

    found = [
        StoreCounts(
            row.store_id,
            row.name,
            row.visits,
            int(row.images),
            int(row.open),
            int(row.failed),
            int(row.cancelled),
            int(row.perimeter),
            row.error_code,
            row.error_message,
        )
        for row in transactions.read(read)
    ]
    return found[:per_page], len(found) > per_page


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
