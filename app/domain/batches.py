"""Batches of photos from cameras in stores: each is a job, its photos are images from storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from app.domain import access, files, jobs, stores, transactions
from app.domain.files import Staging
from app.domain.idempotency import Idempotency
from app.domain.jobs import NOTHING_ASKED, Created, JobOptions, NewImage, NewJob
from app.errors import DecodeError, InvalidRequestError, NotFoundError, TooLargeError, TooManyImagesError
from app.extensions import settings
from app.models import Image, Job, JobSource

# Cameras call everything by this ending, and so does the address of every file.
SUFFIX = ".jpg"
# Batches are read for an answer in groups of about so many images.
IMAGES_A_GROUP = 2000


@dataclass(frozen=True, slots=True)
class Photo:
    """One item of a batch; ``captured_at`` is None where its time is not one that can be read."""

    body: bytes = field(repr=False)
    captured_at: datetime | None
    captured_as_sent: str
    store_name: str
    camera_id: str
    barcode: str


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """Which photos; None does not narrow. Bounds of the time of capture are inclusive."""

    store_name: str | None = None
    camera_id: str | None = None
    barcode: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        equal = {Image.store_name: self.store_name, Image.camera_id: self.camera_id, Image.barcode: self.barcode}
        conditions: list[ColumnElement[bool]] = []
        for column, value in equal.items():
            if value is not None:
                conditions.append(column == value)
        if self.start:
            conditions.append(Image.captured_at >= self.start)
        if self.end:
            conditions.append(Image.captured_at <= self.end)
        return conditions


@dataclass(frozen=True, slots=True)
class Batch:
    job_id: int
    images: Sequence[Image]


def create(
    photos: Iterable[Photo], name: Callable[[], Idempotency | None] = lambda: None, options: JobOptions = NOTHING_ASKED
) -> Created:
    """Store the photos as they come and create their job; ``name`` is asked once there are no more.

    One that cannot be taken ends it, and nothing is kept. Raises InvalidRequestError with the item's place,
    TooLargeError, TooManyImagesError, StorageError, and what ``photos`` and ``jobs.create`` raise.
    """
    jobs.check(options)
    with Staging() as staged:
        images = [_stage(staged, seq, photo) for seq, photo in enumerate(photos)]
        if not images:
            raise InvalidRequestError("body: there is no image in it")
        known = stores.find_unique({str(image.store_name) for image in images})
        images = [replace(image, store_id=known.get(str(image.store_name).strip())) for image in images]
        new = NewJob(JobSource.BATCHES, images=images, **options.fields())
        return staged.keep_if_new(lambda: jobs.create(new, name()))


def _stage(staged: Staging, seq: int, photo: Photo) -> NewImage:
    if seq >= settings.UPLOAD_MAX_FILES:
        raise TooManyImagesError(f"body: more than the {settings.UPLOAD_MAX_FILES} images that one upload may have")
    try:
        image = staged.add(photo.body, prefix=files.UPLOADS, suffix=SUFFIX)
    except DecodeError as error:
        raise InvalidRequestError(f"[{seq}].file: {error.message}") from error
    except TooLargeError as error:
        raise TooLargeError(f"[{seq}].file: {error}") from error
    return replace(
        image,
        captured_at=photo.captured_at,
        captured_as_sent=photo.captured_as_sent,
        store_name=photo.store_name,
        camera_id=photo.camera_id,
        barcode=photo.barcode,
    )


def find(wanted: BatchFilter, *, page: int, per_page: int) -> Iterator[Batch]:
    """A page of the caller's batches, newest first, each with those of its photos that are wanted; read as they go out.

    Raises NotFoundError past the end; page 1 of nothing is empty.
    """
    conditions = wanted.conditions()
    query = (
        select(Job.id, Job.images_total)
        .where(Job.source == JobSource.BATCHES, access.is_visible(Job))
        .order_by(Job.id.desc())
        .offset((page - 1) * per_page)
        .limit(per_page)
    )
    if conditions:
        query = query.where(exists().where(Image.job_id == Job.id, *conditions))
    found = transactions.read(lambda session: session.execute(query).all())
    if not found and page > 1:
        raise NotFoundError("no such page")
    return (batch for group in _groups(found) for batch in _read(group, conditions))


def _groups(found: Sequence[Any]) -> Iterator[list[int]]:
    group: list[int] = []
    images = 0
    for job in found:
        if group and images + job.images_total > IMAGES_A_GROUP:
            yield group
            group, images = [], 0
        group.append(job.id)
        images += job.images_total
    if group:
        yield group


def _read(job_ids: Sequence[int], conditions: Sequence[ColumnElement[bool]]) -> list[Batch]:
    query = select(Image).where(Image.job_id.in_(job_ids), *conditions).order_by(Image.job_id, Image.seq)

    def read(session: Session) -> Sequence[Image]:
        return session.scalars(query).all()

    images: dict[int, list[Image]] = {job_id: [] for job_id in job_ids}
    for image in transactions.read(read):
        images[image.job_id].append(image)
    return [Batch(job_id, of_job) for job_id, of_job in images.items()]
