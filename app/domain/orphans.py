"""Files that no row names: put by a process that died before it created their job, or left by a delete that failed.

None is taken for one before it is ``FILES_ORPHAN_HOURS`` old by the storage's own clock, since the job that names it
may be on its way. Looking and removing twice at once is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain import transactions
from app.extensions import settings, storage
from app.models import Export, Image, Report, StorageMark, UploadFile
from app.storage import Stat

log = structlog.get_logger()

# Nothing lies below these but what one of the columns names, or a report by the folder that its files are in. Those
# below ``clock`` last for a moment, and are named by nobody.
PREFIXES = ("uploads", "images", "singles", "submissions", "exports", "reports", "marks", "clock")
COLUMNS = (Image.storage_key, UploadFile.storage_key, Export.storage_key, StorageMark.key)
KEYS_A_QUERY = 500


def find() -> Iterator[Stat]:
    """All orphans. Raises StorageError, UnavailableError."""
    return (stat for stats in _find(_oldest()) for stat in stats)


def remove() -> int:
    """Remove all orphans, and what writers that died left half-written; returns how many files those were.

    Raises StorageError, UnavailableError.
    """
    oldest = _oldest()
    removed = storage.remove_unfinished(oldest)
    for stats in _find(oldest):
        storage.delete([stat.key for stat in stats])
        removed += len(stats)
    if removed:
        log.info("orphaned files removed", files=removed)
    return removed


def _oldest() -> datetime:
    return storage.now() - timedelta(hours=settings.FILES_ORPHAN_HOURS)


def _find(oldest: datetime) -> Iterator[list[Stat]]:
    old = (stat for prefix in PREFIXES for stat in storage.list(prefix) if stat.modified_at < oldest)
    while stats := list(islice(old, KEYS_A_QUERY)):
        named = _named([stat.key for stat in stats])
        if orphans := [stat for stat in stats if stat.key not in named]:
            yield orphans


def _named(keys: Sequence[str]) -> set[str | None]:
    folders = {key.rpartition("/")[0] for key in keys}

    def read(session: Session) -> set[str | None]:
        named = {key for column in COLUMNS for key in session.scalars(select(column).where(column.in_(sorted(keys))))}
        of_reports = set(session.scalars(select(Report.folder).where(Report.folder.in_(sorted(folders)))))
        return named | {key for key in keys if key.rpartition("/")[0] in of_reports}

    return transactions.read(read)
