"""A copy of everything that is kept, in a folder, and back again from there into an empty place.

::

    FOLDER/2026-11-24T210000Z/manifest.json          what is in it; written last: without it a backup is none
    FOLDER/2026-11-24T210000Z/jobs.jsonl.gz          a table, a row a line
    FOLDER/files/images/3f/<key>                     stored files, each once for all backups, since none ever changes

The rows are those of one moment, however long their copying takes. The files are copied after them, so every file
that a row names is there; one that a purge has taken meanwhile is said. No program of the database is needed, and what
was saved from one kind of database can be restored into another.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

import structlog
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import current_app
from flask_migrate import upgrade
from sqlalchemy import Date, DateTime, Table, func, insert, inspect, select
from sqlalchemy.orm import Session

from app.domain import transactions
from app.errors import BackupError, StoredFileMissingError
from app.extensions import MIGRATIONS, db, init_migrations, storage
from app.models import StorageMark, Total, Worker
from app.sql import db_now
from app.storage import ANY_TYPE
from app.storage.files import READ_BYTES

log = structlog.get_logger()

FORMAT = 1
MANIFEST = "manifest.json"
FILES = "files"
ROWS_A_READ = 2000
ROWS_A_COMMIT = 5000
# Who lives now, and which storage this is: a backup cannot know, and the place that it is restored to is another.
LEFT_OUT = {Worker.__tablename__, StorageMark.__tablename__}


@dataclass(frozen=True, slots=True)
class Manifest:
    """``rows`` and ``sha256`` by table."""

    format: int
    revision: str  # of the tables
    taken_at: str  # by the database's clock
    rows: dict[str, int]
    sha256: dict[str, str]
    files: int
    files_missing: int


def save(folder: Path) -> tuple[Path, Manifest]:
    """Take a backup into a new folder below ``folder``. Writes nothing to the database or the storage.

    Raises BackupError, UnavailableError, StorageError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".unfinished-{uuid.uuid4().hex}"
    unfinished.mkdir(mode=0o700)
    try:
        revision, moment, rows = transactions.snapshot(lambda session: _save_tables(session, unfinished))
        copied, missing = _save_files(folder / FILES, unfinished)
        sums = {name: _sha256(_table_file(unfinished, name)) for name in rows}
        manifest = Manifest(FORMAT, revision, moment.isoformat(), rows, sums, copied, missing)
        _write_durably(unfinished / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
        target = folder / f"{moment:%Y-%m-%dT%H%M%S}Z"
        if target.exists():
            raise BackupError("there is a backup of this very second already")
        unfinished.rename(target)
    except OSError as error:
        raise BackupError(f"cannot write to {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target, manifest


def restore(backup: Path) -> Manifest:
    """Fill an empty database and its storage from a backup; the tables are made where there are none.

    Raises BackupError: before anything is written where the backup is not whole, or the database not empty.
    """
    manifest = _read_manifest(backup)
    if manifest.revision != _head():
        raise BackupError(f"its tables are of revision {manifest.revision}, this release wants {_head()}")
    for name, digest in manifest.sha256.items():
        if _sha256(_table_file(backup, name)) != digest:
            raise BackupError(f"{name}.jsonl.gz is not what was saved")
    _expect_empty()
    init_migrations(current_app)
    upgrade()
    # What migrations put there themselves is in the backup too.
    transactions.run(lambda session: [session.execute(table.delete()) for table in reversed(_tables())])
    _restore_files(backup)
    for table in _tables():
        _restore_table(backup, table)
        found = transactions.read(lambda session, of=table: session.scalar(select(func.count()).select_from(of)))  # type: ignore[misc]
        if found != manifest.rows.get(table.name, 0):
            raise BackupError(f"{table.name} has {found} rows now, {manifest.rows.get(table.name, 0)} were saved")
    return manifest


def forget(folder: Path, keep: int) -> int:
    """Delete all backups but the ``keep`` newest; returns how many. Stored files stay: newer ones share them."""
    backups = sorted(path.parent for path in folder.glob(f"*Z/{MANIFEST}"))
    old = backups[: max(len(backups) - keep, 0)]
    for backup in old:
        shutil.rmtree(backup)
    return len(old)


def _tables() -> list[Table]:
    return [table for table in db.metadata.sorted_tables if table.name not in LEFT_OUT]


def _table_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.jsonl.gz"


def _head() -> str | None:
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def _save_tables(session: Session, folder: Path) -> tuple[str, datetime, dict[str, int]]:
    revision = MigrationContext.configure(session.connection()).get_current_revision()
    if revision != _head():
        raise BackupError(f"the tables are of revision {revision}, this release is of {_head()}: run db_create.py")
    moment = session.scalars(select(db_now())).one()
    return str(revision), moment, {table.name: _save_table(session, table, folder) for table in _tables()}


def _save_table(session: Session, table: Table, folder: Path) -> int:
    count = 0
    query = select(table).order_by(*table.primary_key).execution_options(yield_per=ROWS_A_READ)
    with gzip.open(_table_file(folder, table.name), "wt", compresslevel=3, encoding="utf-8") as file:
        for row in session.execute(query).mappings():
            file.write(json.dumps({name: _plain(value) for name, value in row.items() if value is not None}) + "\n")
            count += 1
    return count


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return value.isoformat() if isinstance(value, date) else value


def _rows(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(_table_file(folder, name), "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _named_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Key and content type of every stored file that a row names."""
    for table in _tables():
        columns = [column.name for column in table.c if column.name.endswith("storage_key")]
        for row in _rows(folder, table.name) if columns else ():
            for column in columns:
                if key := row.get(column):
                    yield key, row.get("content_type") or ANY_TYPE


def _save_files(folder: Path, unfinished: Path) -> tuple[int, int]:
    """Copy what is not there yet; returns how many files the rows name, and how many of them are gone."""
    count = missing = 0
    for key, _ in _named_files(unfinished):
        count += 1
        target = folder / key
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{uuid.uuid4().hex}")
        try:
            _write_durably(temporary, *storage.stream(key))
            temporary.replace(target)
        except StoredFileMissingError:
            missing += 1
            log.warning("file missing", key=key)
        finally:
            temporary.unlink(missing_ok=True)
    return count, missing


def _write_durably(file: Path, *pieces: bytes) -> None:
    with file.open("xb") as target:
        for piece in pieces:
            target.write(piece)
        target.flush()
        os.fsync(target.fileno())


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise BackupError(f"cannot read {file}: {error.strerror}") from error


def _read_manifest(backup: Path) -> Manifest:
    try:
        manifest = Manifest(**json.loads((backup / MANIFEST).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise BackupError(f"{backup} is no backup, or unfinished: its {MANIFEST} cannot be read") from error
    if manifest.format != FORMAT:
        raise BackupError(f"it has the format {manifest.format}, this release reads {FORMAT}")
    return manifest


def _expect_empty() -> None:
    there = set(inspect(db.engine).get_table_names())
    for table in _tables():
        # Totals begin at zero, as rows.
        if table.name in there and table.name != Total.__tablename__:
            query = select(func.count()).select_from(table)
            if transactions.read(lambda session, query=query: session.scalar(query)):  # type: ignore[misc]
                raise BackupError(f"the database is not empty ({table.name}): restore into a new one")


def _restore_files(backup: Path) -> None:
    for key, content_type in _named_files(backup):
        file = backup.parent / FILES / key
        if not file.is_file() or _is_stored(key, file.stat().st_size):
            continue
        with file.open("rb") as content:
            storage.put(key, iter(lambda: content.read(READ_BYTES), b""), content_type=content_type)


def _is_stored(key: str, size: int) -> bool:
    try:
        return storage.stat(key).bytes == size
    except StoredFileMissingError:
        return False


def _restore_table(backup: Path, table: Table) -> None:
    readers = {column.name: _reader(column.type) for column in table.c}
    rows = _rows(backup, table.name)
    while some := list(islice(rows, ROWS_A_COMMIT)):
        values = [{name: readers[name](value) for name, value in row.items()} for row in some]
        transactions.run(lambda session, values=values: _insert(session, table, values))  # type: ignore[misc]


def _reader(kind: Any) -> Callable[[Any], Any]:
    if isinstance(kind, DateTime):
        return datetime.fromisoformat
    return date.fromisoformat if isinstance(kind, Date) else lambda value: value


def _insert(session: Session, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """A statement for those with the same columns: what is absent stays NULL, where None could be JSON's null."""
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        alike.setdefault(tuple(row), []).append(row)
    for some in alike.values():
        session.connection().execute(insert(table), some)
