"""Files that are made on their way to storage: in DATA_DIR, since a container's own temporary folder is its memory."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from app.extensions import settings

FOLDER = "scratch"
OLD_SECONDS = 86_400.0  # nobody works on one report for so long


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=_place()) as path:
        yield Path(path)


@contextmanager
def file() -> Iterator[BinaryIO]:
    """A file that no process but this one sees, and that is gone with it."""
    with tempfile.TemporaryFile(dir=_place()) as opened:
        yield cast(BinaryIO, opened)


def remove_old() -> None:
    """Remove what processes that were killed have left."""
    for path in _place().iterdir():
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - OLD_SECONDS:
                shutil.rmtree(path)


def _place() -> Path:
    place = settings.DATA_DIR / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    return place.resolve()
