"""Files that others put into a bucket, read by the names that these gave them: within one prefix and nowhere else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from app.errors import StoredFileMissingError
from app.storage.s3 import Credentials, S3Storage

MOST_BYTES = 900  # S3 takes names of 1,024; the prefix has a part of them


class Prefix:
    """Like ``s3://bucket/lists?endpoint=...``; nothing connects before the first use."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        self._bucket = S3Storage(url, credentials)

    def open(self, name: str) -> BinaryIO:
        """A file by its name below the prefix, or by its whole address; read as it comes in.

        Raises StoredFileMissingError, also for a name that could lead elsewhere, and StorageError.
        """
        start = f"{self._bucket.name.rstrip('/')}/"
        inner = name.removeprefix(start)
        if not _is_plain(inner):
            raise StoredFileMissingError
        return cast(BinaryIO, io.BufferedReader(_Pieces(self._bucket.stream_named(inner))))


def _is_plain(name: str) -> bool:
    """Whether it means the same to every layer between us and the bucket."""
    is_storable = name.isprintable() and "\\" not in name and "%" not in name and len(name.encode()) <= MOST_BYTES
    return is_storable and not {"", ".", ".."} & set(name.split("/"))


class _Pieces(io.RawIOBase):
    """A file of which the pieces come one after the other."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and (piece := next(self._pieces, None)) is not None:
            self._rest = piece
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)
