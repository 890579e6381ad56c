"""Manifests: lists of ids and URLs that other services send, or name in the manifest folder."""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any, BinaryIO, cast

from flask import Flask, current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import manifestfile
from app.domain import cancellations, jobs, transactions
from app.domain.feeds import Feed, Queue
from app.domain.idempotency import Idempotency
from app.domain.jobs import NOTHING_ASKED, Created, JobOptions, NewImage, NewJob
from app.errors import (
    ConflictError,
    ManifestError,
    StoredFileMissingError,
    TooManyImagesError,
    UnavailableError,
    UnprocessableError,
)
from app.extensions import manifest_prefix, settings
from app.fetching import urls
from app.manifestfile import Row
from app.models import Image, ImageState, JobSource
from app.processors import codes as processor_codes
from app.processors import tensor
from app.storage import Prefix

HTTP_URL = re.compile(urls.PATTERN)
NOT_THERE = "Invalid input file url"
# The three errors of an image that consumers know; what became of it exactly stands in the job's images.
NOT_REQUESTED = "Image could not be requested."
NOT_OPENED = "Image could not be opened."
TIMED_OUT = "Timeout while requesting Image."
# An answer that is waited for looks for what has been settled: often at first, then now and then.
LEAST_PAUSE_SECONDS = 0.05
MOST_PAUSE_SECONDS = 1.0
ROWS_A_LOOK = 500


def open_named(filepath: object) -> BinaryIO:
    """Open a file of the manifest folder by its relative or absolute path; close it.

    Whatever lies elsewhere once links are followed, is no file or cannot be read is answered alike, so that nobody
    learns what else there is: raises UnprocessableError; StorageError where a bucket does not answer.
    """
    if not isinstance(filepath, str) or not filepath.strip():
        raise UnprocessableError(NOT_THERE)
    if prefix := manifest_prefix():
        return _open_in_bucket(prefix, filepath)
    return _open_in_folder(filepath)


def _open_in_bucket(prefix: Prefix, filepath: str) -> BinaryIO:
    try:
        return prefix.open(filepath)
    except (StoredFileMissingError, UnicodeError):
        raise UnprocessableError(NOT_THERE) from None


def _open_in_folder(filepath: str) -> BinaryIO:
    try:
        folder = settings.manifest_dir.resolve(strict=True)
        file = (folder / filepath).resolve(strict=True)
        if not file.is_relative_to(folder):
            raise UnprocessableError(NOT_THERE)
        # Not to follow a link that is put there in this moment, nor to wait for the other end of a pipe.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError, RuntimeError):
        raise UnprocessableError(NOT_THERE) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnprocessableError(NOT_THERE)
    return os.fdopen(descriptor, "rb")


def create(
    manifest: BinaryIO, feed: Feed | None, name: Idempotency | None = None, options: JobOptions = NOTHING_ASKED
) -> Created:
    """Create a job of the rows of a manifest, of which the images are told as ``feed`` says.

    Raises ManifestError, TooManyImagesError, TooLargeError, and what ``jobs.create`` raises.
    """
    jobs.check(options)
    images = _images(manifest, settings.JOB_MAX_IMAGES)
    if feed and feed.queue is Queue.BATCH:
        options = replace(options, processors=[*(options.processors or ()), tensor.NAME])
    return jobs.create(NewJob(JobSource.MANIFESTS, images=images, feed=feed, **options.fields()), name)


def create_waited_for(
    manifest: BinaryIO, name: Idempotency | None = None, options: JobOptions = NOTHING_ASKED
) -> Created:
    """The same for a job of which the answer is waited for; its rows have a bound of their own."""
    jobs.check(options)
    most = min(settings.MANIFEST_MAX_WAITED_ROWS, settings.JOB_MAX_IMAGES)
    beyond = " that are answered at once: post it to /api/v1/images_info_async/"
    images = _images(manifest, most, beyond)
    return jobs.create(NewJob(JobSource.MANIFESTS, images=images, **options.fields()), name)


class _Images(Collection[NewImage]):
    """The images of a manifest, each made as it is asked for: as rows they take half the room."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, dict[str, Any] | None]] = []

    def add(self, row: Row) -> None:
        self._rows.append((row.id, row.url, row.extra or None))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[NewImage]:
        for key, url, extra in self._rows:
            yield NewImage(url=url, client_ref=key, client_metadata=extra)

    def __contains__(self, image: object) -> bool:
        return any(image == each for each in self)


def _images(manifest: BinaryIO, most: int, beyond: str = "") -> _Images:
    images = _Images()
    for row in manifestfile.read(manifest, most_bytes=settings.MANIFEST_MAX_BYTES):
        if not HTTP_URL.match(row.url):
            raise ManifestError(row.line, "url: not an http(s) URL")
        if len(row.url.encode()) > settings.FETCH_MAX_URL_BYTES:
            raise ManifestError(row.line, f"url: longer than {settings.FETCH_MAX_URL_BYTES} bytes")
        if len(images) == most:
            raise TooManyImagesError(f"the manifest has more than {most} rows{beyond}")
        images.add(row)
    if not images:
        raise ManifestError(1, "there are no rows below it")
    return images


def settled(created: Created) -> Generator[list[Image], None, None]:
    """The images of a job in the order as sent, some at a time, as they are settled; an empty list while none is.

    After ``MANIFEST_WAIT_SECONDS`` what is open is cancelled, and handed out as it is. It is cancelled too where nobody
    listens any more, unless the job is an earlier request's. A database that leaves meanwhile is waited for as the
    images are; raises UnavailableError where it is away at the end.
    """
    until = time.monotonic() + settings.MANIFEST_WAIT_SECONDS
    total = next_seq = 0
    pause = LEAST_PAUSE_SECONDS
    try:
        while not total or next_seq < total:
            if is_late := time.monotonic() >= until:
                _stop(created.job_id)
            try:
                total = total or jobs.get(created.job_id).images_total
                found = transactions.read(partial(_page, job_id=created.job_id, first=next_seq))
            except UnavailableError:
                if is_late:
                    raise
                found = []
            ready = found if is_late else list(takewhile(_is_settled, found))
            yield ready
            next_seq += len(ready)
            pause = LEAST_PAUSE_SECONDS if ready else min(2 * pause, MOST_PAUSE_SECONDS)
            if len(ready) < ROWS_A_LOOK and next_seq < total:
                time.sleep(pause)
    except GeneratorExit:
        if created.is_new:
            _stop(created.job_id)
        raise


def _page(session: Session, *, job_id: int, first: int) -> list[Image]:
    query = select(Image).where(Image.job_id == job_id, Image.seq >= first).order_by(Image.seq).limit(ROWS_A_LOOK)
    return list(session.scalars(query))


def _is_settled(image: Image) -> bool:
    return image.state is not ImageState.OPEN


def _stop(job_id: int) -> None:
    with suppress(ConflictError):  # it has ended by itself meanwhile
        cancellations.cancel(job_id)


def take_place() -> Callable[[], None]:
    """Take one of the places of those who wait for their answer; returns what gives it back.

    They hold half the threads of a web process at most. Raises UnavailableError where all places are taken.
    """
    places = _places(cast(Flask, current_app._get_current_object()))  # type: ignore[attr-defined]
    if not places.acquire(blocking=False):
        raise UnavailableError("too many answers are waited for: try again later or use /api/v1/images_info_async/")
    return places.release


_making = threading.Lock()


def _places(app: Flask) -> threading.BoundedSemaphore:
    with _making:
        if "manifests.places" not in app.extensions:
            app.extensions["manifests.places"] = threading.BoundedSemaphore(max(1, settings.WEB_THREADS // 2))
    return cast(threading.BoundedSemaphore, app.extensions["manifests.places"])


def entry(image: Image) -> dict[str, Any]:
    """What is told of one image, in the words that consumers of manifests know."""
    shown: dict[str, Any] = {"url": image.url}
    if image.state is ImageState.DONE:
        shown["image_info"] = {
            "image_size": image.bytes,
            "image_dimension": [image.width, image.height],
            "image_format": image.format,
        }
    else:
        shown |= {"image_info": "", "error": _error(image)}
    return shown | ({"extra": image.client_metadata} if image.client_metadata else {})


def _error(image: Image) -> str:
    if image.state is not ImageState.FAILED or image.error_code == "timeout":
        return TIMED_OUT
    return NOT_OPENED if image.error_code in processor_codes.CODES else NOT_REQUESTED
