"""Single images: worked on while their sender waits, by the same processors in the same kind of child as by workers.

Each becomes a job of one image, which is done or failed from the start; with ``is_waited_for`` False a worker does it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from flask import current_app
from sqlalchemy import select

from app import processors
from app.domain import access, decoding, files, jobs, transactions
from app.domain.files import Staging, StoredFile
from app.domain.idempotency import Idempotency
from app.domain.jobs import NOTHING_ASKED, JobOptions, NewImage, NewJob
from app.errors import DecodeError, NotFoundError, UnavailableError
from app.extensions import settings
from app.models import Image, ImageState, Job, JobSource
from app.processors.contract import Needs, Processor, needs_of, version_of
from app.processors.running import Worked

PREFIX = "singles"
BROKEN_PIXELS = "broken_pixels"
_starting = threading.Lock()


@dataclass(frozen=True, slots=True)
class Single:
    """``name`` is the client's; ``results`` by processor, as on every image."""

    job_id: int
    key: str
    name: str
    state: ImageState
    error: str | None
    results: dict[str, Any]
    uploaded_at: datetime
    callback_secret: str | None = None  # where it was created just now, and one was made


@dataclass(frozen=True, slots=True)
class NewSingle:
    """Without processors among its options it gets all that are registered."""

    body: bytes
    name: str
    options: JobOptions = NOTHING_ASKED
    is_waited_for: bool = True


def create(new: NewSingle, name: Idempotency | None = None) -> Single:
    """Store an image and work on it, or leave that to a worker; the same ``name`` gives the first one again.

    Raises DecodeError where it is no image that is read here, TooLargeError, StorageError, and what ``jobs.create``
    raises; UnavailableError, too, where too many wait already.
    """
    jobs.check(new.options)
    names = jobs.known_processors(new.options.processors)
    wanted = names or [processor.NAME for processor in processors.REGISTERED]
    with Staging() as staged:
        image = replace(staged.add(new.body, prefix=PREFIX, suffix=""), client_ref=new.name)
        if new.is_waited_for:
            with _place():
                image = _work_on(image, new.body, wanted)
        job = NewJob(JobSource.IMAGES, images=[image], **replace(new.options, processors=wanted).fields())
        created = staged.keep_if_new(lambda: jobs.create(job, name))
    return replace(_read(Job.id == created.job_id)[0], callback_secret=created.callback_secret)


@contextmanager
def _place() -> Iterator[None]:
    """Half of the threads may wait for images; the others are for those who ask for something quick."""
    with _starting:
        places = current_app.extensions.setdefault("places", threading.Semaphore(max(1, settings.WEB_THREADS // 2)))
    if not places.acquire(blocking=False):
        raise UnavailableError("too many images are being worked on just now: try again, or with async=1")
    try:
        yield
    finally:
        places.release()


def _work_on(image: NewImage, body: bytes, names: Sequence[str]) -> NewImage:
    started = time.monotonic()
    wanted = processors.find(names)
    results: dict[str, Any] = {}
    try:
        worked = decoding.work_on(body, names)
    except DecodeError as error:
        if error.transient:
            raise UnavailableError(error.message) from error
        if error.code == BROKEN_PIXELS:
            results = _without_pixels(body, wanted)
        results |= {each.NAME: _error(each, error) for each in wanted if each.NAME not in results}
        image = replace(image, state=ImageState.FAILED, error_code=error.code, error_message=error.message)
    else:
        results = _read_results(worked)
        image = replace(image, state=ImageState.DONE, **worked.measures)
    return replace(image, results=results, seconds=round(time.monotonic() - started, 4))


def _without_pixels(body: bytes, wanted: Sequence[Processor]) -> dict[str, Any]:
    """What the others find out, where the pixels cannot be had."""
    names = [processor.NAME for processor in wanted if needs_of(processor) is not Needs.PIXELS]
    try:
        return _read_results(decoding.work_on(body, names))
    except DecodeError:
        return {}


def _read_results(worked: Worked) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(worked.results) if worked.results else {}
    return found


def _error(processor: Processor, error: DecodeError) -> dict[str, Any]:
    return {"version": version_of(processor), "error": {"code": error.code, "message": error.message}}


def find(*, page: int, count: int) -> list[Single]:
    """A page of the caller's images, newest first; empty past the end."""
    return _read(offset=(page - 1) * count, limit=count)


def get(key: str, name: str) -> Single:
    """One image of the caller's. Raises NotFoundError."""
    found = _read(Image.storage_key == key, Image.client_ref == name)
    if not found:
        raise NotFoundError("no such image")
    return found[0]


def get_file(key: str, name: str) -> StoredFile:
    """The file of one image of the caller's. Raises NotFoundError."""
    found = files.get(key)
    if found.name != name:
        raise NotFoundError("no such file")
    return found


def _read(*conditions: Any, offset: int = 0, limit: int = 1) -> list[Single]:
    query = (
        select(Image, Job.created_at)
        .join(Job, Job.id == Image.job_id)
        .where(Job.source == JobSource.IMAGES, access.is_visible(Job), *conditions)
        .order_by(Job.id.desc())
        .offset(offset)
        .limit(limit)
    )
    return [_as_single(*row) for row in transactions.read(lambda session: session.execute(query).all())]


def _as_single(image: Image, uploaded_at: datetime) -> Single:
    return Single(
        job_id=image.job_id,
        key=str(image.storage_key),
        name=str(image.client_ref),
        state=image.state,
        error=image.error_message if image.state is ImageState.FAILED else None,
        results=image.results or {},
        uploaded_at=uploaded_at,
    )
