"""A processor that is new, or newer, on images that were worked on long ago and are stored.

Each image's results say which version of a processor they are from, so a backfill that was stopped, or is run again,
goes on with those that lack the present one. It writes into results only: no counter, state or time changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import structlog
from flask import Flask, current_app
from sqlalchemy import BigInteger, Integer, Text, or_, select, update
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.orm import Session

from app import processors
from app.decoding import Children
from app.domain import decoding, jobs, transactions
from app.errors import DecodeError, StorageError
from app.models import Image, ImageState, Job, JobSource
from app.processors.contract import Processor, version_of
from app.sql import json_rows
from app.storage import Storage

log = structlog.get_logger()

IMAGES_A_PAGE = 64  # worked on, then written in one transaction: what is lost where it is stopped
JOBS_A_LOOK = 500

_results = json_rows("results", job_id=BigInteger(), seq=Integer(), results=Text().with_variant(LONGTEXT(), "mysql"))
_write_results = (
    update(Image)
    .where(Image.job_id == _results.c.job_id, Image.seq == _results.c.seq, Image.state == ImageState.DONE)
    .values(results=_results.c.results)
    .execution_options(synchronize_session=False)
)


@dataclass(slots=True)
class Tally:
    """Images by what became of them; ``unread`` ones have no file that can be read now."""

    done: int = 0
    failed: int = 0
    already: int = 0
    unread: int = 0

    def __iadd__(self, other: Tally) -> Tally:
        self.done += other.done
        self.failed += other.failed
        self.already += other.already
        self.unread += other.unread
        return self


@dataclass(slots=True)
class _Page:
    entries: dict[int, Any] = field(default_factory=dict)  # by the seq of the image
    tally: Tally = field(default_factory=Tally)


def run(name: str, *, job_id: int | None = None, with_errors: bool = False) -> Iterator[tuple[int, Tally]]:
    """Run the processor on all stored images that lack its present version; yields each job that has any.

    ``with_errors`` also on those on which this very version has failed. Raises InvalidRequestError for an unknown
    name, UnavailableError. Two at once are harmless: they do some work twice.
    """
    jobs.known_processors([name])
    [processor] = processors.find([name])
    children = Children(decoding.options())
    try:
        for each in [job_id] if job_id else _jobs():
            if tally := _work_on_job(each, processor, children, with_errors):
                yield each, tally
    finally:
        children.close()


def _jobs() -> Iterator[int]:
    """Jobs that may have stored images, by id."""
    last = 0
    may_have_files = or_(Job.keep_images, Job.source != JobSource.URLS)
    query = select(Job.id).where(may_have_files).order_by(Job.id).limit(JOBS_A_LOOK)
    while found := transactions.read(
        lambda session, after=last: session.scalars(query.where(Job.id > after)).all()  # type: ignore[misc]
    ):
        yield from found
        last = found[-1]


def _work_on_job(job_id: int, processor: Processor, children: Children, with_errors: bool) -> Tally | None:
    tally, last = Tally(), -1
    columns = (Image.seq, Image.storage_key, Image.sha256, Image.results)
    query = (
        select(*columns)
        .where(Image.job_id == job_id, Image.state == ImageState.DONE, Image.storage_key.is_not(None))
        .order_by(Image.seq)
        .limit(IMAGES_A_PAGE)
    )
    while rows := transactions.read(
        lambda session, after=last: session.execute(query.where(Image.seq > after)).all()  # type: ignore[misc]
    ):
        due = [row for row in rows if _is_due(row, processor, with_errors)]
        page = _work_on_page(due, processor, children)
        page.tally.already = len(rows) - len(due)
        if page.entries:
            transactions.run(lambda session, page=page: _merge(session, job_id, processor.NAME, page))  # type: ignore[misc]
        tally += page.tally
        last = rows[-1].seq
    return tally if last >= 0 else None


def _is_due(row: Any, processor: Processor, with_errors: bool) -> bool:
    entry = (row.results or {}).get(processor.NAME)
    if not entry or entry.get("version") != version_of(processor):
        return True
    return with_errors and "error" in entry


def _work_on_page(rows: Sequence[Any], processor: Processor, children: Children) -> _Page:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    storage: Storage = app.extensions["storage"]
    page = _Page()

    def work_on(row: Any) -> dict[str, Any] | StorageError:
        try:
            return _entry(storage.read(row.storage_key, sha256=row.sha256), processor, children)
        except StorageError as error:
            return error

    # Together, so that a model gets its batches.
    with ThreadPoolExecutor(max_workers=IMAGES_A_PAGE // 4, thread_name_prefix="backfill") as threads:
        try:
            entries = list(threads.map(work_on, rows))
        except BaseException:
            children.close()  # or the threads would be waited for
            raise
    for row, entry in zip(rows, entries, strict=True):
        if isinstance(entry, StorageError):
            page.tally.unread += 1
            log.warning("image not read", image=row.seq, reason=entry.message)
        else:
            page.tally.failed += "error" in entry
            page.tally.done += "error" not in entry
            page.entries[row.seq] = entry
    return page


def _entry(body: bytes, processor: Processor, children: Children) -> dict[str, Any]:
    """An image that cannot be decoded stays done: it is this processor that has no result for it."""
    try:
        results = json.loads(children.work_on(body, [processor]).results or "{}")
    except DecodeError as error:
        if error.transient:
            raise StorageError(error.message) from error
        return {"version": version_of(processor), "error": {"code": error.code, "message": error.message}}
    entry: dict[str, Any] = results[processor.NAME]
    return entry


def _merge(session: Session, job_id: int, name: str, page: _Page) -> None:
    """Row locks: the images, so that nothing another backfill has found meanwhile is lost."""
    query = select(Image.seq, Image.results).where(Image.job_id == job_id, Image.seq.in_(sorted(page.entries)))
    rows = [
        (job_id, row.seq, json.dumps((row.results or {}) | {name: page.entries[row.seq]}, ensure_ascii=False))
        for row in session.execute(query.order_by(Image.seq).with_for_update())
    ]
    session.execute(_write_results, {"results": json.dumps(rows)})
