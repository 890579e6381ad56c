"""Whether this host sees the files that the other hosts see.

The first process that uses the storage puts a mark into it, an empty file under a random name, and then writes that
name into the database, where only one gets in. A host that knows the name and does not see the file has another folder
mounted, or another bucket set: what it stored nobody would find.
"""

from __future__ import annotations

import structlog
from flask import current_app
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from app.domain import transactions
from app.errors import OtherStorageError, StorageError, StoredFileMissingError, UnavailableError
from app.extensions import storage
from app.models import StorageMark
from app.storage import new_key

log = structlog.get_logger()

PREFIX = "marks"
ONLY = 1  # the row's id


def expect() -> None:
    """Before this process first puts a file: mark the storage where nobody has, else see that it is the marked one.

    Raises OtherStorageError, StorageError, UnavailableError. Costs nothing once it went well.
    """
    if not current_app.extensions.get("storage_is_shared"):
        if not check():
            _mark()
        current_app.extensions["storage_is_shared"] = True


def check() -> bool:
    """Whether there is a mark, and this host sees it; raises OtherStorageError where it does not."""
    key = _marked()
    if key is None:
        return False
    try:
        storage.stat(key)
    except StoredFileMissingError as error:
        raise OtherStorageError(storage.name) from error
    return True


def check_at_start() -> None:
    """Raises OtherStorageError; what cannot be told now is told by the first use."""
    try:
        check()
    except OtherStorageError:
        raise
    except (StorageError, UnavailableError, DBAPIError) as error:
        log.warning("storage not checked", reason=str(error)[:200])


def adopt() -> None:
    """Mark this storage as the one that all hosts use from now on: its files were moved, or the mark was lost."""
    key = _marked()
    if key is None:
        _mark()
    else:
        storage.put(key, b"")


def _mark() -> None:
    """The file goes first, so that no row names one that was never there."""
    key = new_key(PREFIX)
    storage.put(key, b"")
    try:
        transactions.run(lambda session: session.add(StorageMark(id=ONLY, key=key)))
    except IntegrityError:
        # Another process was faster, or it was us and the answer was lost.
        if _marked() != key:
            storage.delete([key])
            check()


def _marked() -> str | None:
    def read(session: Session) -> str | None:
        return session.scalar(select(StorageMark.key).where(StorageMark.id == ONLY))

    return transactions.read(read)
