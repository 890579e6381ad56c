"""What every storage can do."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app.errors import StoredFileDamagedError
from app.storage.keys import new_key

READ_BYTES = 256 * 1024
ANY_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written: its length, and the SHA-256 of its content in hexadecimal digits."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Stat:
    """``modified_at`` is naive UTC, by the clock of whoever keeps the files."""

    key: str
    bytes: int
    modified_at: datetime


class Storage(ABC):
    """One folder or bucket; may be used by any thread.

    Every method raises StorageError where the disk or the service fails, which may pass, and StoredFileMissingError
    where a file that is read is not there.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The place, for people; holds no secret."""

    @abstractmethod
    def put(self, key: str, data: bytes | Iterable[bytes], *, content_type: str = ANY_TYPE) -> Stored:
        """Write a file, or replace it. It is there whole and will outlive a power failure, or it is not there at all.

        ``content_type`` is what a presigned link will answer with. What ``data`` raises comes out as it is.
        """

    @abstractmethod
    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes ``start`` to ``end`` (exclusive) of a file in pieces. Raises before the first piece what it can."""

    @abstractmethod
    def stat(self, key: str) -> Stat:
        """Length and age of a file."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove files; those that are not there are no error."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[Stat]:
        """All files below ``prefix``, in no particular order; those being written are not among them."""

    @abstractmethod
    def remove_unfinished(self, before: datetime) -> int:
        """Remove what writers that died have left half-written, untouched since ``before``; returns how many."""

    @abstractmethod
    def check(self) -> None:
        """Raises StorageError, within some seconds, where files cannot be read now; writes nothing."""

    def now(self) -> datetime:
        """The time by the clock that ages of files go by, found out by writing one."""
        key = new_key("clock")
        self.put(key, b"")
        written_at = self.stat(key).modified_at
        self.delete([key])
        return written_at

    def presigned(self, key: str, *, seconds: float) -> str | None:
        """An address where anybody can fetch the file for so long; None where this storage gives out none."""
        return None

    def local_path(self, key: str) -> Path | None:
        """The file itself, where it lies on a disk of this host; None elsewhere."""
        return None

    def read(self, key: str, *, sha256: str | None = None) -> bytes:
        """A whole file. Raises StoredFileDamagedError where it is not what ``sha256`` says was written."""
        body = b"".join(self.stream(key))
        if sha256 is not None and hashlib.sha256(body).hexdigest() != sha256:
            raise StoredFileDamagedError
        return body
