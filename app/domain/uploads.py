"""Submissions of the upload page: files are collected, and handed in.

``unpacking`` opens them and makes a job of each, ``submissions`` tells how far they are. A submission's id is random:
whoever is let in and owns it finds its results by that alone, and none is ever listed.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app import archives, mails, queues
from app.domain import access, idempotency, jobs, transactions
from app.domain.files import Stage
from app.domain.idempotency import Idempotency
from app.domain.jobs import NOTHING_ASKED, JobOptions
from app.errors import ConflictError, InvalidRequestError, NotFoundError, TooLargeError
from app.extensions import settings, storage
from app.models import Upload, UploadFile, UploadState
from app.processors import DecodeLimits, ImageFile
from app.processors.formats import FORMATS
from app.sql import db_now
from app.storage import Stored, new_key

FOLDER = "submissions"
ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
MOST_SHOWN_FILES = 200
COLLECTING_SECONDS = 2 * 86_400.0  # nobody's page stays open longer
REFUSED_SECONDS = 7 * 86_400.0
FORGOTTEN_AT_ONCE = 50
NOTHING_UPLOADED = "Please upload images before starting!"
EMAIL_NEEDED = "Please enter your e-mail address."
EMAIL_WRONG = "That does not look like an e-mail address."


def new_id() -> str:
    return uuid.uuid4().hex


class Kept(NamedTuple):
    """The submission that files belong to now, and what their sender was told of each."""

    is_new: bool
    submission: str
    told: list[dict[str, Any]]


class Incoming(Stage):
    """Files on their way into a submission: in storage as they come, in the submission all together or not at all."""

    def __init__(self, upload_id: str) -> None:
        super().__init__()
        self._upload_id = upload_id
        self._rows: list[dict[str, Any]] = []

    def add(self, name: str, pieces: Iterable[bytes]) -> int:
        """Store a file, an archive as it comes in; returns its length.

        Raises DecodeError for what is neither an image nor a zip, TooLargeError, StorageError.
        """
        start, rest = _begin(pieces)
        is_archive = start.startswith(ZIP_STARTS)
        whole = self._within_room(chain([start], rest))
        if is_archive:
            key = self.key(FOLDER, ".zip")
            stored = storage.put(key, whole, content_type="application/zip")
        else:
            body = _gathered(whole)
            suffix, content_type = _kind(body)
            key = self.key(FOLDER, suffix)
            stored = storage.put(key, body, content_type=content_type)
        row = {"name": archives.shown(name), "storage_key": key, "bytes": stored.bytes, "sha256": stored.sha256}
        self._rows.append({**row, "is_archive": is_archive})
        return stored.bytes

    def _within_room(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces, as long as the submission has room for them. Raises TooLargeError."""
        of_upload = select(Upload.bytes).where(Upload.id == self._upload_id)
        size = transactions.read(lambda session: session.scalar(of_upload)) or 0
        size += sum(row["bytes"] for row in self._rows)

        def counted(size: int) -> Iterator[bytes]:
            for piece in pieces:
                size += len(piece)
                if size > most:
                    raise TooLargeError(f"more than the {most:,} bytes that one submission may have")
                yield piece

        most = settings.UPLOAD_MAX_BYTES
        return counted(size)

    def keep(self, told: list[dict[str, Any]], name: Idempotency | None = None) -> Kept:
        """Add the files to the submission, which begins with its first; the same ``name`` adds nothing a second time.

        Raises TooLargeError, ConflictError where it was handed in already, NotFoundError.
        """
        return self.keep_if_new(
            lambda: idempotency.run(lambda session: _add(session, self._upload_id, self._rows, told, name))
        )


def add(upload_id: str, name: str, pieces: Iterable[bytes]) -> None:
    """One file. Raises what ``Incoming`` raises."""
    with Incoming(upload_id) as incoming:
        incoming.add(name, pieces)
        incoming.keep([])


def _begin(pieces: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Enough of a file to tell what it is, and the rest of it."""
    rest, start = iter(pieces), b""
    while len(start) < len(ZIP_STARTS[0]) and (piece := next(rest, None)) is not None:
        start += piece
    return start, rest


def _gathered(pieces: Iterable[bytes]) -> bytes:
    """A whole image. Raises TooLargeError."""
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > settings.FETCH_MAX_BYTES:
            raise TooLargeError(f"larger than the {settings.FETCH_MAX_BYTES:,} bytes that an image may have")
    return bytes(body)


def store_image(body: bytes) -> tuple[str, Stored]:
    """Under an ending and a type that its own header says. Raises DecodeError, StorageError."""
    suffix, content_type = _kind(body)
    key = new_key(FOLDER, suffix)
    return key, storage.put(key, body, content_type=content_type)


def _kind(body: bytes) -> tuple[str, str]:
    """Ending and type of an image. Raises DecodeError."""
    image = ImageFile(body, DecodeLimits(settings.image_formats, settings.IMAGE_MAX_PIXELS)).image
    kind = FORMATS[str(image.format)]
    return kind.suffix, kind.content_type


def _add(
    session: Session, upload_id: str, rows: list[dict[str, Any]], told: list[dict[str, Any]], name: Idempotency | None
) -> Kept:
    """Row lock: the upload. Running again after a lost COMMIT finds the files by the key of the first."""
    kept = Kept(True, upload_id, told)
    if _is_named(session, upload_id, rows[0]["storage_key"]):
        return kept
    if first := idempotency.recall(session, name):
        return Kept(False, first.answer["submission"], first.answer["told"])
    upload = _locked(session, upload_id) or _begun(session, upload_id)
    if upload.state is not UploadState.COLLECTING:
        raise ConflictError("this submission was handed in already; reload the page to begin another one")
    size = sum(row["bytes"] for row in rows)
    if upload.bytes + size > settings.UPLOAD_MAX_BYTES or upload.files + len(rows) > settings.JOB_MAX_IMAGES:
        raise TooLargeError("more than one submission may have")
    session.add_all(UploadFile(upload_id=upload_id, seq=seq, **row) for seq, row in enumerate(rows, upload.files))
    upload.files += len(rows)
    upload.bytes += size
    idempotency.remember(session, name, 0, {"submission": upload_id, "told": told})
    session.flush()
    return kept


def _is_named(session: Session, upload_id: str, key: str) -> bool:
    query = select(UploadFile.seq).where(UploadFile.upload_id == upload_id, UploadFile.storage_key == key)
    return session.scalar(query) is not None


def _locked(session: Session, upload_id: str) -> Upload | None:
    """The caller's upload. Raises NotFoundError where it is another's."""
    upload = session.scalars(select(Upload).where(Upload.id == upload_id).with_for_update()).first()
    if upload is not None and not is_visible(upload):
        raise NotFoundError("no such submission")
    return upload


def is_visible(upload: Upload) -> bool:
    caller = access.current()
    return caller.sees_all or upload.owner_id == caller.owner_id


def _begun(session: Session, upload_id: str) -> Upload:
    upload = Upload(
        id=upload_id,
        owner_id=access.current().owner_id,
        state=UploadState.COLLECTING,
        files=0,
        bytes=0,
        ignored=0,
        created_at=session.scalars(select(db_now())).one(),
        claim=0,
        attempts=0,
    )
    session.add(upload)
    session.flush()
    return upload


def hand_in(
    upload_id: str | None, email: str, name: Idempotency | None = None, options: JobOptions = NOTHING_ASKED
) -> None:
    """Queue a submission, whose job will be as ``options`` ask; a second call changes nothing.

    Raises InvalidRequestError with a sentence for people, ConflictError.
    """
    jobs.check(options)
    email = email.strip()
    if settings.UPLOAD_EMAIL_REQUIRED and not email:
        raise InvalidRequestError(EMAIL_NEEDED)
    if email and not mails.is_address(email):
        raise InvalidRequestError(EMAIL_WRONG)

    def work(session: Session) -> None:
        if idempotency.recall(session, name):
            return
        upload = _locked(session, upload_id) if upload_id else None
        if upload is None or not upload.files:
            raise InvalidRequestError(NOTHING_UPLOADED)
        if upload.state is UploadState.COLLECTING:
            now = session.scalars(select(db_now())).one()
            upload.state, upload.email = UploadState.QUEUED, email or None
            upload.queued_at = upload.due_at = now
            if options != NOTHING_ASKED:
                upload.options = options.fields()
        idempotency.remember(session, name, 0)

    idempotency.run(work)
    queues.ring_builder()


def forget() -> int:
    """Delete submissions that nobody handed in, and those that were refused, some days later; returns how many.

    In slices, each in its own transaction: rows first, files behind them, which are orphans should we die in between.
    """
    forgotten = 0
    while deleted := transactions.run(_forget_some):
        storage.delete([key for keys in deleted.values() for key in keys])
        forgotten += len(deleted)
    return forgotten


def _forget_some(session: Session) -> dict[str, list[str]]:
    """By the id of each submission, the keys of its files."""
    is_left = (Upload.state == UploadState.COLLECTING) & (Upload.created_at < db_now(-COLLECTING_SECONDS))
    is_refused = (Upload.state == UploadState.REFUSED) & (Upload.created_at < db_now(-REFUSED_SECONDS))
    is_old = is_left | (is_refused & Upload.due_at.is_(None))
    old = session.scalars(select(Upload.id).where(is_old).limit(FORGOTTEN_AT_ONCE).with_for_update()).all()
    found: dict[str, list[str]] = {upload_id: [] for upload_id in old}
    if not old:
        return found
    files = select(UploadFile.upload_id, UploadFile.storage_key).where(UploadFile.upload_id.in_(old))
    for row in session.execute(files):
        if row.storage_key:
            found[row.upload_id].append(row.storage_key)
    session.execute(delete(UploadFile).where(UploadFile.upload_id.in_(old)))
    session.execute(delete(Upload).where(Upload.id.in_(old)))
    return found


def collected(upload_id: str) -> tuple[list[UploadFile], int]:
    """The first files that a submission of the caller's holds so far, and how many there are."""

    def work(session: Session) -> tuple[list[UploadFile], int]:
        upload = session.get(Upload, upload_id)
        if upload is None or upload.state is not UploadState.COLLECTING or not is_visible(upload):
            return [], 0
        query = select(UploadFile).where(UploadFile.upload_id == upload_id).order_by(UploadFile.seq)
        return list(session.scalars(query.limit(MOST_SHOWN_FILES)).all()), upload.files

    return transactions.read(work)
