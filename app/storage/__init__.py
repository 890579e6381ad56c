"""Files of images and results, on a local folder or in S3 behind one interface.

A key is made by ``new_key`` and by nobody else: whatever is not of that pattern is refused before a path is made of it.
A file is seen under its key only once it is whole. Which folder or bucket it is, one URL says::

    file:///shared/files
    s3://bucket/prefix?endpoint=https://minio.example:9000&region=eu-central-1
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.storage.files import ANY_TYPE, Stat, Storage, Stored
from app.storage.keys import is_key, new_key
from app.storage.local import LocalStorage
from app.storage.prefixes import Prefix
from app.storage.s3 import Credentials, S3Storage, check_url

__all__ = [
    "ANY_TYPE",
    "Credentials",
    "LocalStorage",
    "Prefix",
    "S3Storage",
    "Stat",
    "Storage",
    "Stored",
    "check",
    "is_key",
    "new_key",
    "open_storage",
]


def check(url: str) -> None:
    """Raises ValueError, in words for whoever wrote the setting, where ``url`` cannot be a place for files."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        check_url(url)
    elif parts.scheme != "file" or parts.netloc or not parts.path.startswith("/") or parts.query:
        raise ValueError("must be file:///an/absolute/folder or s3://bucket/prefix?endpoint=...&region=...")


def open_storage(url: str, credentials: Credentials) -> Storage:
    """The storage at ``url``; nothing connects and no folder is made before the first use."""
    if url.startswith("s3:"):
        return S3Storage(url, credentials)
    return LocalStorage(Path(unquote(urlsplit(url).path)))
