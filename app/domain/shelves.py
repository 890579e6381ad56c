"""Stored files read and written by threads of their own, for a conveyor that must not wait for a disk or for S3."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from app.errors import StorageError
from app.processors.formats import FORMATS
from app.storage import Storage, keys

log = structlog.get_logger()

Result = TypeVar("Result")

THREADS = 16
KEPT = "images"  # the prefix of fetched images that are kept


class Kept:
    """Where a fetched image was put, and its checksum."""

    __slots__ = ("key", "sha256")

    def __init__(self, key: str, sha256: str) -> None:
        self.key = key
        self.sha256 = sha256


class Shelves:
    """May be used by any thread; ``done`` is called by one of ours, once, unless ``close`` comes first."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._wanted: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def read(self, key: str, sha256: str | None, done: Callable[[bytes | StorageError], None]) -> None:
        """Read a file, and check that it is what was written where that is known."""
        self._do(lambda: done(_caught(lambda: self._storage.read(key, sha256=sha256))))

    def keep(self, body: bytes, format: str, done: Callable[[Kept | StorageError], None]) -> None:
        """Write an image under a new name; it is there to stay once ``done`` is told so."""
        self._do(lambda: done(_caught(lambda: self._keep(body, format))))

    def _keep(self, body: bytes, format: str) -> Kept:
        suffix, content_type = FORMATS[format]
        key = keys.new_key(KEPT, suffix)
        return Kept(key, self._storage.put(key, body, content_type=content_type).sha256)

    def close(self) -> None:
        """What has not been begun is not begun; does not wait for the rest."""
        self._is_closed = True
        for _ in self._threads:
            self._wanted.put(None)

    def _do(self, work: Callable[[], None]) -> None:
        self._wanted.put(work)
        if len(self._threads) < THREADS and not self._is_closed:
            # Not those of an executor: Python would wait for them at its end, however long a disk hangs.
            thread = threading.Thread(target=self._serve, name=f"shelf-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        while (work := self._wanted.get()) and not self._is_closed:
            work()


def _caught(work: Callable[[], Result]) -> Result | StorageError:
    try:
        return work()
    except StorageError as error:
        return error
    except Exception as error:
        log.error("storage failed", exc_info=error)
        return StorageError(f"The storage failed: {type(error).__name__}.")
