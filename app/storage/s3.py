"""Files in a bucket of S3 or of anything that speaks its language (MinIO, SeaweedFS, Ceph, R2)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from app.errors import StorageError, StoredFileMissingError
from app.later import Later
from app.storage import keys
from app.storage.files import ANY_TYPE, READ_BYTES, Stat, Storage, Stored

if TYPE_CHECKING:
    import obstore
    from obstore import exceptions
    from obstore import store as stores
else:
    obstore, exceptions, stores = map(Later, ("obstore", "obstore.exceptions", "obstore.store"))

# Smaller files go up in one request; larger ones in parts of this size, a few at once.
PART_BYTES = 8 * 1024 * 1024
PARTS_AT_ONCE = 4
KEYS_A_REQUEST = 1000
REQUEST_OPTIONS = {"connect_timeout": "5s", "timeout": "60s"}
# A worker tries again later, and a client of the web waits for it.
RETRY = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"max_backoff": timedelta(seconds=1)},
}
# Whoever asks for /health waits for this.
CHECK_OPTIONS = {"connect_timeout": "1s", "timeout": "2s"}
OPTIONS = ("endpoint", "region")
REGION = "us-east-1"  # which servers that know no regions expect


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account; empty: whatever the environment gives (a role of the host, the container or the pod)."""

    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)

    def as_options(self) -> dict[str, str]:
        return {name: value for name in self.__slots__ if (value := getattr(self, name))}


def check_url(url: str) -> None:
    """Raises ValueError, in words for whoever wrote the setting."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials: they go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not parts.netloc:
        raise ValueError("names no bucket: s3://bucket/prefix?endpoint=...&region=...")
    unknown = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - set(OPTIONS)
    if unknown:
        raise ValueError(f"knows endpoint and region, not {', '.join(sorted(unknown))}")
    endpoint = dict(parse_qsl(parts.query)).get("endpoint", "https://")
    if not endpoint.startswith(("https://", "http://")) or "@" in endpoint:
        raise ValueError("has an endpoint that is not https://host[:port] or http://host[:port]")


class S3Storage(Storage):
    def __init__(self, url: str, credentials: Credentials) -> None:
        self._parts: SplitResult = urlsplit(url)
        self._prefix = unquote(self._parts.path).strip("/")
        self._credentials = credentials
        self._opening = threading.Lock()
        self._stores: dict[str, stores.S3Store] = {}
        self._pid: int | None = None

    @property
    def name(self) -> str:
        return f"s3://{self._parts.netloc}/{self._prefix}"

    def put(self, key: str, data: bytes | Iterable[bytes], *, content_type: str = ANY_TYPE) -> Stored:
        # A file appears with the last byte of its request, or with the request that joins its parts: no temporary name.
        digest = _Digest(iter([data]) if isinstance(data, bytes) else iter(data))
        first = digest.take(PART_BYTES)
        is_whole = len(first) < PART_BYTES
        body: Any = first if is_whole else digest.parts(first)
        store = self._store()
        try:
            with _translated():
                obstore.put(
                    store,
                    keys.checked(key),
                    body,
                    attributes={"Content-Type": content_type},
                    use_multipart=not is_whole,
                    chunk_size=PART_BYTES,
                    max_concurrency=PARTS_AT_ONCE,
                )
        except StorageError:
            if digest.error is not None:
                raise digest.error from None
            raise
        return Stored(digest.bytes, digest.hexdigest())

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        if end is not None and end <= start:
            return iter(())
        wanted: Any = {"offset": start} if end is None else (start, end)
        with _translated():
            # Without a range an empty file is read, too.
            options = {"range": wanted} if start or end is not None else {}
            found = obstore.get(self._store(), keys.checked(key), options=options)  # type: ignore[arg-type]
        return _pieces(found)

    def stream_named(self, name: str) -> Iterator[bytes]:
        """A file that is no key of ours, by its name below the prefix, which was looked at before. As ``stream``."""
        with _translated():
            return _pieces(obstore.get(self._store(), name))

    def stat(self, key: str) -> Stat:
        with _translated():
            return _stat(key, obstore.head(self._store(), keys.checked(key)))

    def delete(self, keys: Iterable[str]) -> None:
        wanted = [_checked(key) for key in keys]
        for start in range(0, len(wanted), KEYS_A_REQUEST):
            with contextlib.suppress(StoredFileMissingError), _translated():
                obstore.delete(self._store(), wanted[start : start + KEYS_A_REQUEST])

    def list(self, prefix: str) -> Iterator[Stat]:
        with _translated():
            pages = iter(obstore.list(self._store(), prefix))
        while True:
            with _translated():
                page = next(pages, None)
            if page is None:
                return
            yield from (_stat(entry["path"], entry) for entry in page if keys.is_key(entry["path"]))

    def remove_unfinished(self, before: datetime) -> int:
        return 0  # parts of uploads that broke off are the bucket's: a lifecycle rule removes them

    def check(self) -> None:
        store = self._store("check", CHECK_OPTIONS, {"max_retries": 0, "retry_timeout": timedelta(seconds=2)})
        with contextlib.suppress(StoredFileMissingError), _translated():
            obstore.head(store, "check/never-there")

    def presigned(self, key: str, *, seconds: float) -> str | None:
        with _translated():
            return str(obstore.sign(self._store(), "GET", keys.checked(key), timedelta(seconds=seconds)))

    def _store(
        self, purpose: str = "files", client: dict[str, Any] = REQUEST_OPTIONS, retry: dict[str, Any] = RETRY
    ) -> stores.S3Store:
        """The client of this process, made at its first use."""
        with self._opening:
            if self._pid not in (None, os.getpid()):
                # Its threads did not come along: whatever is asked would never be answered.
                raise RuntimeError("the S3 client was used before this process was forked")
            self._pid = os.getpid()
            if purpose not in self._stores:
                self._stores[purpose] = self._connect(client, retry)
            return self._stores[purpose]

    def _connect(self, client: Any, retry: Any) -> stores.S3Store:
        options: Any = {"region": REGION} | dict(parse_qsl(self._parts.query)) | self._credentials.as_options()
        is_plain = options.get("endpoint", "").startswith("http://")
        with _translated():
            return stores.S3Store(
                self._parts.netloc,
                prefix=self._prefix or None,
                client_options={**client, "allow_http": is_plain},
                retry_config=retry,
                checksum_algorithm="SHA256",  # the server compares what it got
                **options,
            )


_checked = keys.checked


class _Digest:
    """Pieces on their way, counted and digested; ``error`` is what their maker raised."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._sha256 = hashlib.sha256()
        self.bytes = 0
        self.error: BaseException | None = None

    def take(self, most: int) -> bytes:
        """``most`` bytes or a little more; fewer at the end."""
        taken = bytearray()
        while len(taken) < most and (piece := self._next()) is not None:
            taken += piece
        return bytes(taken)

    def parts(self, first: bytes) -> Iterator[bytes]:
        yield first
        while piece := self._take_noting_errors():
            yield piece

    def _take_noting_errors(self) -> bytes:
        try:
            return self.take(PART_BYTES)
        except BaseException as error:
            self.error = error
            raise

    def _next(self) -> bytes | None:
        piece = next(self._pieces, None)
        if piece is not None:
            self._sha256.update(piece)
            self.bytes += len(piece)
        return piece

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def _pieces(found: Any) -> Iterator[bytes]:
    pieces = iter(found.stream(min_chunk_size=READ_BYTES))
    while True:
        with _translated():
            piece = next(pieces, None)
        if piece is None:
            return
        yield bytes(piece)


def _stat(key: str, found: Any) -> Stat:
    return Stat(key, found["size"], found["last_modified"].astimezone(UTC).replace(tzinfo=None))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StoredFileMissingError from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise StorageError("The file could not be stored or read: the S3 server refuses the account.") from error
    except (exceptions.BaseError, OSError) as error:
        # obstore's own words hold addresses and parts of requests: they stay in the log's traceback.
        raise StorageError("The file could not be stored or read: the S3 server does not do it now.") from error
