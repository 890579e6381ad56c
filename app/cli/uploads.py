"""``imagejobs upload``: the photos of a folder, in batches that are read as they are sent."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from app.cli import output, watching
from app.cli.options import tell, with_job_options
from app.cli.services import CannotError, Created, RefusedError, Service, with_service

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".mpo", ".avif"}
# A batch is one request and one job: few enough that one which breaks off is soon sent again.
FILES_A_BATCH = 100
BYTES_A_BATCH = 64 * 1024 * 1024
# Read at a time; a multiple of three, so that the pieces in base64 join up.
PIECE_BYTES = 3 * 64 * 1024
# How the service names the item that it cannot take.
ITEM = re.compile(r"\[(\d+)\][^:]*: (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Photo:
    path: Path
    bytes: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Metadata:
    store_name: str
    camera_id: str
    barcode: str


@click.command("upload")
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--store-name", default="", help="Name of the store that the photos are of.")
@click.option("--camera-id", default="", help="What took them.")
@click.option("--barcode", default="", help="What they show.")
@click.option("--processors", help="Names of processors, by comma; without it the images are measured.")
@with_job_options
@click.option("--again", is_flag=True, help="Make new jobs even of photos that were uploaded so before.")
@click.option("--watch", is_flag=True, help="Follow the jobs to their end; exit with 1 if one failed.")
@with_service
def upload_command(
    service: Service,
    folder: Path,
    processors: str | None,
    again: bool,
    watch: bool,
    asked: dict[str, str],
    **metadata: str,
) -> None:
    """Upload the photos in FOLDER and those below it (or one file), and print the ids of their jobs.

    They are taken in the order of their names, about a hundred a job. Calling it again after it was interrupted goes
    on: what was uploaded already makes no second job. Exits with 1 where a file was not taken.
    """
    asked |= {"processors": processors} if processors is not None else {}
    upload = _Upload(service, Metadata(**metadata), asked, salt=os.urandom(16).hex() if again else "")
    jobs = upload.run(folder)
    for path, reason in upload.refused:
        click.echo(output.escaped(f"not taken: {path}: {reason}"), err=True)
    has_failed = bool(upload.refused)
    if not jobs and not has_failed:
        raise CannotError(f"{folder}: there are no images in it")
    if watch:
        sys.stdout.flush()
        has_failed |= any(watching.follow(service, job)["status"] != "completed" for job in jobs)
    sys.exit(1 if has_failed else 0)


class _Upload:
    """``refused`` are files that the service did not take, with its reasons."""

    def __init__(self, service: Service, metadata: Metadata, asked: dict[str, str], *, salt: str) -> None:
        self._service = service
        self._metadata = metadata
        self._asked = asked
        self._salt = salt
        self.refused: list[tuple[Path, str]] = []

    def run(self, folder: Path) -> list[int]:
        """Upload all photos; prints the jobs as they come and returns them."""
        jobs: list[int] = []
        files = size = 0
        for photo in _photos(folder):
            files, size = files + 1, size + photo.bytes
        if not files:
            return jobs
        with _progress() as progress:
            task = progress.add_task(f"{files} file{'' if files == 1 else 's'}", total=size)
            for batch in _batches(_photos(folder)):
                created = self._send(batch, progress, task)
                if created is not None:
                    jobs.append(tell(created))
        return jobs

    def _send(self, batch: Sequence[Photo], progress: Progress, task: TaskID) -> Created | None:
        """The job of a batch, without those of its files that the service does not take; None where it takes none."""
        start = progress.tasks[task].completed
        left = list(batch)
        while left:
            body = _Body(left, self._metadata, lambda sent: progress.update(task, completed=start + sent))
            try:
                created = self._service.upload(body, idempotency_key=self._key(left), asked=self._asked)
            except RefusedError as error:
                found = ITEM.match(error.reason)
                if found is None or int(found[1]) >= len(left):
                    raise
                self.refused.append((left.pop(int(found[1])).path, found[2]))
            else:
                progress.update(task, completed=start + sum(photo.bytes for photo in batch))
                return created
        return None

    def _key(self, photos: Sequence[Photo]) -> str:
        """The same for the same files of which the same is said and asked: a second call makes no second job."""
        named = [[str(photo.path.resolve()), photo.bytes, photo.changed_at.timestamp()] for photo in photos]
        meta = self._metadata
        asked = self._asked.copy()
        told = [self._salt, asked.pop("processors", None), meta.store_name, meta.camera_id, meta.barcode, named]
        # At the end, and only where there is any: what an older release uploaded has to be known again.
        text = json.dumps([*told, asked] if asked else told)
        return f"upload-{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()}"


class _Body:
    """A list of photos as JSON, read from their files as it is sent, and again where it is sent again."""

    def __init__(self, photos: Sequence[Photo], metadata: Metadata, tell: Callable[[int], object]) -> None:
        self._photos = photos
        self._tails = [_tail(photo, metadata) for photo in photos]
        self._tell = tell

    def __len__(self) -> int:
        texts = sum(4 * ((photo.bytes + 2) // 3) for photo in self._photos)
        return 1 + texts + sum(len(HEAD) + len(tail) + 1 for tail in self._tails)

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        mark = b"["
        for photo, tail in zip(self._photos, self._tails, strict=True):
            yield mark + HEAD
            for piece in _pieces(photo):
                yield base64.b64encode(piece)
                sent += len(piece)
                self._tell(sent)
            yield tail
            mark = b","
        yield b"]"


HEAD = b'{"file":"'


def _tail(photo: Photo, metadata: Metadata) -> bytes:
    fields = {
        "timestamp": photo.changed_at.isoformat(timespec="seconds"),
        "store_name": metadata.store_name,
        "camera_id": metadata.camera_id,
        "barcode": metadata.barcode,
    }
    return b'",' + json.dumps(fields).encode()[1:]


def _pieces(photo: Photo) -> Iterator[bytes]:
    """As many bytes as were announced. Raises CannotError where the file has become another one."""
    left = photo.bytes
    try:
        with photo.path.open("rb") as file:
            while left:
                piece = file.read(min(PIECE_BYTES, left))
                if not piece:
                    raise CannotError(f"{photo.path} has become shorter while it was read")
                left -= len(piece)
                yield piece
    except OSError as error:
        raise CannotError(f"{photo.path} cannot be read: {error.strerror}") from error


def _photos(folder: Path) -> Iterator[Photo]:
    """The photos in a folder and below it, in the order of their names, found as they are asked for; or one file."""
    if not folder.is_dir():
        yield _photo(folder)
        return
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield _photo(path)


def _photo(path: Path) -> Photo:
    try:
        found = path.stat()
    except OSError as error:
        raise CannotError(f"{path} cannot be read: {error.strerror}") from error
    return Photo(path, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _batches(photos: Iterator[Photo]) -> Iterator[list[Photo]]:
    batch: list[Photo] = []
    size = 0
    for photo in photos:
        if batch and (len(batch) == FILES_A_BATCH or size + photo.bytes > BYTES_A_BATCH):
            yield batch
            batch, size = [], 0
        batch.append(photo)
        size += photo.bytes
    if batch:
        yield batch


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        expand=True,
    )
