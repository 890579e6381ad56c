"""Files in a folder of this host, or of a mount that all hosts share."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self

from app.errors import StorageError, StoredFileMissingError
from app.storage import keys
from app.storage.files import ANY_TYPE, READ_BYTES, Stat, Storage, Stored

# Files are written here, in the same file system, and moved to their names when they are whole.
UNFINISHED = ".unfinished"
FULL = {errno.ENOSPC, errno.EDQUOT}


class LocalStorage(Storage):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        return str(self._folder)

    def put(self, key: str, data: bytes | Iterable[bytes], *, content_type: str = ANY_TYPE) -> Stored:
        target = self._path(key)
        unfinished = self._folder / UNFINISHED / uuid.uuid4().hex
        with _translated():
            self._make_folder(target.parent)
            self._make_folder(unfinished.parent)
            file = unfinished.open("xb", buffering=0)
        try:
            with file:
                stored = _write(file, [data] if isinstance(data, bytes) else data)
            with _translated():
                unfinished.replace(target)
                _sync_folder(target.parent)
        finally:
            # Once it was moved there is nothing to remove; a full disk gets its bytes back at once.
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
        return stored

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and those above it that are missing, each of which will outlive a power failure."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        with _translated():
            file = self._path(key).open("rb")
        return _Pieces(file, start, end)

    def stat(self, key: str) -> Stat:
        with _translated():
            return _stat(key, self._path(key).stat())

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with _translated():
                self._path(key).unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[Stat]:
        for folder, _, names in os.walk(self._folder / prefix):
            within = Path(folder).relative_to(self._folder).as_posix()
            for name in names:
                key = f"{within}/{name}"
                # Whatever else lies here is not ours, and removed files are no error.
                with contextlib.suppress(OSError):
                    if keys.is_key(key):
                        yield _stat(key, (Path(folder) / name).stat())

    def remove_unfinished(self, before: datetime) -> int:
        removed = 0
        # Its writer may finish one at this moment.
        with contextlib.suppress(FileNotFoundError), _translated(FileNotFoundError):
            for entry in os.scandir(self._folder / UNFINISHED):
                if _modified_at(entry.stat()) < before:
                    os.unlink(entry)
                    removed += 1
        return removed

    def check(self) -> None:
        with _translated():
            place = self._folder
            while not place.exists():  # it is made with the first file
                place = place.parent
            if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "it cannot be written")

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def _path(self, key: str) -> Path:
        return self._folder / keys.checked(key)


def _write(file: BinaryIO, pieces: Iterable[bytes]) -> Stored:
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
        rest = memoryview(piece)
        with _translated():
            while rest:  # a disk that is just getting full takes a part
                rest = rest[file.write(rest) :]
    with _translated():
        os.fsync(file.fileno())
    return Stored(size, digest.hexdigest())


class _Pieces:
    """A part of an open file, which is closed at its end, or by whoever reads no further."""

    def __init__(self, file: BinaryIO, start: int, end: int | None) -> None:
        self._file = file
        self._left = sys.maxsize if end is None else end - start
        with _translated():
            file.seek(start)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        with _translated():
            piece = b"" if self._file.closed else self._file.read(max(0, min(READ_BYTES, self._left)))
        if not piece:
            self.close()
            raise StopIteration
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._file.close()


def _stat(key: str, found: os.stat_result) -> Stat:
    return Stat(key, found.st_size, _modified_at(found))


def _modified_at(found: os.stat_result) -> datetime:
    return datetime.fromtimestamp(found.st_mtime, UTC).replace(tzinfo=None)


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder outlive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems have no such call; their server keeps names by itself.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated(*unless: type[OSError]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if isinstance(error, unless):
            raise
        raise StoredFileMissingError from error
    except OSError as error:
        # The operating system's words without its path, which is nobody's business outside.
        reason = "the disk is full" if error.errno in FULL else error.strerror or "the disk failed"
        raise StorageError(f"The file could not be stored or read: {reason}.") from error
