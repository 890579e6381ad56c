"""Workbooks that are too large to be waited for: asked for on a page, built by a worker, kept for some days.

They are rows that a worker leases, as reports are (``reports``); one that is interrupted is begun anew by the next.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from app import queues
from app.domain import access, idempotency, leases, scratch, transactions, visit_files
from app.domain.access import Caller, Scope
from app.domain.files import StoredFile
from app.domain.idempotency import Idempotency
from app.domain.leases import Lease
from app.domain.visit_files import Asked
from app.errors import InvalidRequestError, NotFoundError, StorageError, TooLargeError
from app.extensions import settings, storage
from app.models import Export, ExportState
from app.reports import sheets
from app.sql import db_now
from app.storage import new_key

log = structlog.get_logger()

FOLDER = "exports"
TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MOST_ROWS = 10 * sheets.ROWS_A_SHEET
RETRY_SECONDS = 30.0
LOOK_SECONDS = 2.0
READ_BYTES = 256 * 1024
DAY_SECONDS = 86_400.0
EXPORTS_AT_ONCE = 100


def create(asked: Asked, name: Idempotency | None = None) -> Export:
    """Have a worker build it. With the ``name`` of an earlier call it returns that call's export.

    Raises TooLargeError, and InvalidRequestError where it cannot be shown like that.
    """
    next(visit_files.rows(asked), None)
    total = visit_files.count(asked)
    if total > MOST_ROWS:
        raise TooLargeError(f"{total} rows are more than the {MOST_ROWS} that a workbook may have: take CSV")
    export_id = uuid.uuid4().hex
    export = idempotency.run(lambda session: _create(session, export_id, asked, total, name))
    queues.ring_builder()
    return export


def _create(session: Session, export_id: str, asked: Asked, total: int, name: Idempotency | None) -> Export:
    if first := idempotency.recall(session, name):
        return load(session, first.answer["export_id"])
    if session.get(Export, export_id) is None:
        caller = access.current()
        row: dict[str, Any] = {
            "id": export_id,
            "owner_id": caller.owner_id,
            "sees_all": caller.sees_all,
            "asked": asked.as_json(),
        }
        row |= {"state": ExportState.BUILDING, "rows_total": total, "created_at": db_now(), "due_at": db_now()}
        session.connection().execute(insert(Export).values(**row))
        idempotency.remember(session, name, 0, {"export_id": export_id})
    return load(session, export_id)


def get(export_id: str) -> Export:
    """Raises NotFoundError."""
    return transactions.read(lambda session: load(session, export_id))


def load(session: Session, export_id: str) -> Export:
    """Of the caller's own; one that shows what is everybody's, only to who sees that. Raises NotFoundError."""
    found = session.scalars(select(Export).where(Export.id == export_id, access.is_visible(Export))).first()
    if found is None or (found.sees_all and not access.current().sees_all):
        raise NotFoundError("no such file, or it was deleted since")
    return found


def get_file(export_id: str) -> StoredFile:
    """The workbook of an export that is built. Raises NotFoundError, StorageError."""
    export = get(export_id)
    if export.state is not ExportState.DONE or export.built_at is None:
        raise NotFoundError("the file is not built yet")
    name = f"visits-{export.created_at:%Y-%m-%d}.xlsx"
    return StoredFile(
        key=str(export.storage_key),
        bytes=export.bytes or 0,
        sha256=export.sha256 or "",
        content_type=TYPE,
        stored_at=export.built_at,
        name=name,
    )


def build_next(is_stopping: Callable[[], bool]) -> bool:
    """Build the export that has been due for longest; False where none is."""
    lease = leases.claim(Export)
    if lease is None:
        return False
    export: Export = lease.row
    scope = Scope.ADMIN if export.sees_all else Scope.READ
    try:
        if lease.is_hopeless:
            _fail(lease, "It could not be built: each worker that began with it died.")
        else:
            with access.acting_as(Caller(export.owner_id, frozenset({scope}))):
                _build(lease, is_stopping)
    except leases.LeaseLostError:
        log.warning("export left", export_id=export.id, reason="another worker builds it, or it was deleted")
    except _StoppedError:
        lease.give_back(delay_seconds=0, attempts=0, rows_done=0)
    except InvalidRequestError as error:
        _fail(lease, str(error))
    except StorageError as error:
        _put_off(lease, error.message)
    return True


class _StoppedError(Exception):
    """The worker is asked to end."""


def _build(lease: Lease, is_stopping: Callable[[], bool]) -> None:
    asked = Asked.of_json(lease.row.asked)
    key = new_key(FOLDER, ".xlsx")
    with scratch.folder() as folder:
        made = folder / "visits.xlsx"
        sheets.write(made, asked.titles, _watched(lease, visit_files.rows(asked), is_stopping))
        lease.renew()
        with made.open("rb") as file:
            stored = storage.put(key, iter(lambda: file.read(READ_BYTES), b""), content_type=TYPE)
    try:
        _end(lease, ExportState.DONE, storage_key=key, bytes=stored.bytes, sha256=stored.sha256, built_at=db_now())
    except leases.LeaseLostError:
        storage.delete([key])
        raise
    log.info("export built", export_id=lease.row.id, bytes=stored.bytes)


def _watched(lease: Lease, rows: Iterator[Any], is_stopping: Callable[[], bool]) -> Iterator[Any]:
    """The rows; now and then it is noted how far they go, and the lease renewed."""
    look_at = 0.0
    for number, row in enumerate(rows):
        if number % 1000 == 0 and time.monotonic() >= look_at:
            if is_stopping():
                raise _StoppedError
            lease.renew(rows_done=number)
            look_at = time.monotonic() + LOOK_SECONDS
        yield row


def _end(lease: Lease, state: ExportState, **values: Any) -> None:
    transactions.run(lambda session: lease.write(session, state=state, due_at=None, **values))


def _fail(lease: Lease, reason: str) -> None:
    _end(lease, ExportState.FAILED, error_message=reason[:300])


def _put_off(lease: Lease, reason: str) -> None:
    log.warning("export put off", export_id=lease.row.id, reason=reason)
    lease.put_off(retry_seconds=RETRY_SECONDS, give_up=lambda: _fail(lease, f"It could not be built: {reason}"))


def forget() -> int:
    """Delete exports older than ``EXPORT_KEEP_DAYS`` with their files; returns how many. Raises StorageError."""
    forgotten = 0
    while some := transactions.run(_forget_some):
        forgotten += some
    return forgotten


def _forget_some(session: Session) -> int:
    is_old = Export.created_at < db_now(-settings.EXPORT_KEEP_DAYS * DAY_SECONDS)
    old = session.execute(select(Export.id, Export.storage_key).where(is_old).limit(EXPORTS_AT_ONCE)).all()
    if old:
        session.execute(delete(Export).where(Export.id.in_([row.id for row in old])))
        storage.delete([row.storage_key for row in old if row.storage_key])
    return len(old)
