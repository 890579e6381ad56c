"""Images that are stored: staged before their job is created, found again to be served, removed where none names them.

A file is put first and named by a row afterwards, so that no row names a file that is not there. Should the process die
in between, the file is an orphan: ``app.domain.orphans`` finds those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import Protocol, Self, TypeVar

import structlog
from sqlalchemy import select

from app.domain import access, cursors, sharing, transactions
from app.domain.plans import NewImage
from app.errors import ImagejobsError, NotFoundError, StorageError, TooLargeError, UnavailableError
from app.extensions import settings, storage
from app.models import Image, Job
from app.processors import DecodeLimits, ImageFile
from app.processors.formats import FORMATS
from app.storage import ANY_TYPE, new_key

log = structlog.get_logger()

UPLOADS = "uploads"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that may be served: it never changes, so its checksum is all that a cache needs to know."""

    key: str
    bytes: int
    sha256: str
    content_type: str
    stored_at: datetime
    name: str | None  # the client's


class HasIsNew(Protocol):
    @property
    def is_new(self) -> bool: ...


Made = TypeVar("Made", bound=HasIsNew)


class Stage:
    """Files that are put before the rows which name them; those that no row comes to name are removed."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._is_kept = False
        self._may_be_named = False

    def key(self, prefix: str, suffix: str) -> str:
        """A new key under which a file is about to be put. Raises OtherStorageError, StorageError, UnavailableError."""
        sharing.expect()
        self._keys.append(new_key(prefix, suffix))
        return self._keys[-1]

    def keep_if_new(self, make: Callable[[], Made]) -> Made:
        """Make what names the files; they go again where it was there already, by its Idempotency-Key."""
        # From now on a row may name them, whatever answer comes back: only a plain refusal says that none does.
        self._may_be_named = True
        made = make()
        self._is_kept = made.is_new
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_refused = isinstance(error, ImagejobsError) and not isinstance(error, UnavailableError)
        may_be_named = self._may_be_named and error is not None and not is_refused
        if self._is_kept or may_be_named:
            return
        try:
            storage.delete(self._keys)
        except StorageError as failure:
            log.warning("staged files left", files=len(self._keys), reason=failure.message)


class Staging(Stage):
    """The images of a job which is about to be created.

    ::

        with Staging() as staged:
            images = [staged.add(body, prefix=UPLOADS) for body in bodies]
            staged.keep_if_new(lambda: jobs.create(...))
    """

    def add(self, body: bytes, *, prefix: str, suffix: str | None = None) -> NewImage:
        """Put one image, whose header is read first; ``suffix`` is that of its format unless given.

        Raises DecodeError where it is no image that is read here, TooLargeError, StorageError.
        """
        if len(body) > settings.FETCH_MAX_BYTES:
            raise TooLargeError(f"larger than the {settings.FETCH_MAX_BYTES} bytes that an image may have")
        kind = _format(body)
        ending, content_type = FORMATS[kind]
        key = self.key(prefix, ending if suffix is None else suffix)
        stored = storage.put(key, body, content_type=content_type)
        return NewImage(
            storage_key=key, content_type=content_type, bytes=stored.bytes, sha256=stored.sha256, format=kind
        )


def _format(body: bytes) -> str:
    with ImageFile(body, _limits(settings.image_formats, settings.IMAGE_MAX_PIXELS)) as file:
        # The file and its image hold each other: unless it is closed, the body waits for the garbage collector.
        return str(file.image.format)


@lru_cache
def _limits(image_formats: tuple[str, ...], max_pixels: int) -> DecodeLimits:
    return DecodeLimits(image_formats, max_pixels)


def get(key: str) -> StoredFile:
    """The caller's file with this key. Raises NotFoundError."""
    return _get(Image.storage_key == key)


def get_of_image(job_id: int, seq: int) -> StoredFile:
    """The file of one image of a job of the caller's. Raises NotFoundError, also where the image is not stored."""
    if max(job_id, seq) > cursors.MOST_NUMBER:
        raise NotFoundError("no such file")
    return _get(Image.job_id == job_id, Image.seq == seq, Image.storage_key.is_not(None))


def _get(*conditions: object) -> StoredFile:
    query = (
        select(Image, Job.created_at)
        .join(Job, Job.id == Image.job_id)
        .where(*conditions, access.is_visible(Job))  # type: ignore[arg-type]
        .limit(1)
    )
    found = transactions.read(lambda session: session.execute(query).first())
    if found is None:
        raise NotFoundError("no such file")
    image, created_at = found
    return StoredFile(
        key=str(image.storage_key),
        bytes=int(image.bytes or 0),
        sha256=image.sha256 or "",
        content_type=_content_type(image),
        stored_at=created_at,
        name=image.client_ref,
    )


def _content_type(image: Image) -> str:
    """That of the header, seen when it was staged, or by the worker that fetched it."""
    if image.content_type:
        return image.content_type
    return FORMATS[image.format].content_type if image.format in FORMATS else ANY_TYPE
