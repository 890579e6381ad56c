"""What a door hands in, and the rows that become of it: a job with its visits, chunks and images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice, repeat
from typing import Any

from app import processors
from app.domain import access, totals
from app.domain.feeds import Feed
from app.domain.turns import PRIORITY_NORMAL
from app.extensions import settings
from app.models import Chunk, Image, ImageState, JobSource, JobState, Visit, VisitState

# A job comes in about so many pieces, so that every worker gets one; each is worth a claim of its own.
CHUNKS_A_JOB = 16
LEAST_CHUNK = 10
ROWS_A_STATEMENT = 2000
UNKNOWN_STORE = {"error_code": "unknown_store", "error_message": "not in the store master"}


@dataclass(frozen=True, slots=True)
class NewVisit:
    store_id: str
    visited_at: datetime
    visited_as_sent: str
    urls: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImage:
    """An image without a visit, to be had from its ``storage_key`` or else its ``url``.

    What the door knows already may stand here. One that it has worked on itself is ``state`` DONE or FAILED: DONE has
    its measures, FAILED its error code.
    """

    url: str | None = None
    storage_key: str | None = None
    content_type: str | None = None
    client_ref: str | None = None
    client_metadata: dict[str, Any] | None = None
    captured_at: datetime | None = None
    captured_as_sent: str | None = None
    store_name: str | None = None
    store_id: str | None = None
    camera_id: str | None = None
    barcode: str | None = None
    bytes: int | None = None
    format: str | None = None
    sha256: str | None = None
    state: ImageState = ImageState.OPEN
    error_code: str | None = None
    error_message: str | None = None
    width: int | None = None
    height: int | None = None
    perimeter: int | None = None
    seconds: float | None = None
    results: dict[str, Any] | None = None  # by processor: {"version", "seconds" and "result", or "error"}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a client may ask of its job, whichever door it comes in by; the fields of a NewJob of the same names."""

    priority: int = PRIORITY_NORMAL
    client_metadata: dict[str, Any] | None = None
    processors: Sequence[str] | None = None
    keep_images: bool = False
    callback_url: str | None = None
    callback_secret: str | None = None  # None has one made

    def fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


NOTHING_ASKED = JobOptions()


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job of the caller's has either visits or images of its own; ``processors`` None measures the images only.

    ``images`` may be gone through several times, and may make each as it is asked for.
    """

    source: JobSource
    visits: Sequence[NewVisit] = ()
    images: Collection[NewImage] = ()
    priority: int = PRIORITY_NORMAL
    client_metadata: dict[str, Any] | None = None
    processors: Sequence[str] | None = None
    keep_images: bool = False
    feed: Feed | None = None
    callback_url: str | None = None
    callback_secret: str | None = None  # None has one made

    @property
    def lane(self) -> str:
        return processors.lane(self.processors or ())

    @property
    def images_total(self) -> int:
        return sum(len(visit.urls) for visit in self.visits) + len(self.images)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job that is about to be created consists of. Its images are only counted: they become rows one slice after
    the other, since all at once those of a large job would be hundreds of megabytes."""

    new: NewJob
    is_open: list[bool]  # by the seq of the visit: its store is known
    states: Counter[ImageState]
    errors: Counter[str]  # by code
    chunk_starts: list[int]
    chunk_size: int

    @classmethod
    def of(cls, new: NewJob, stores: set[str]) -> Plan:
        is_open = [visit.store_id in stores for visit in new.visits]
        states: Counter[ImageState] = Counter()
        errors: Counter[str] = Counter()
        for state, error_code in _states(new, is_open):
            states[state] += 1
            if error_code:
                errors[error_code] += 1
        size = chunk_size(states[ImageState.OPEN])
        # Chunks are equal stretches of the images as sent; one in which no image is open has no work.
        numbered = enumerate(_states(new, is_open))
        starts = sorted({seq - seq % size for seq, (state, _) in numbered if state is ImageState.OPEN})
        return cls(new, is_open, states, errors, starts, size)

    def job(self, submission: str, turn: int, now: datetime) -> dict[str, Any]:
        is_ongoing = self.states[ImageState.OPEN] > 0
        row: dict[str, Any] = {
            "submission": submission,
            "source": self.new.source,
            "owner_id": access.current().owner_id,
            "state": JobState.ONGOING if is_ongoing else self._end,
            "priority": self.new.priority,
            "lane": self.new.lane,
            "turn": turn,
            "keep_images": self.new.keep_images,
            "callback_url": self.new.callback_url,
            "visits_total": len(self.new.visits),
            "images_total": self.states.total(),
            "images_open": self.states[ImageState.OPEN],
            "images_done": self.states[ImageState.DONE],
            "images_failed": self.states[ImageState.FAILED],
            "images_cancelled": 0,
            "created_at": now,
            "finished_at": None if is_ongoing else now,
            "version": 0 if is_ongoing else 1,
        }
        # A None would be stored as JSON's null.
        if self.new.client_metadata is not None:
            row["client_metadata"] = self.new.client_metadata
        if self.new.processors is not None:
            row["processors"] = list(self.new.processors)
        if self.new.feed is not None:
            row["feed"] = self.new.feed.as_json()
        return row

    def counts(self) -> totals.Counts:
        """What the job adds to the totals: itself, and what is settled from the start."""
        counts: Counter[tuple[str, str]] = Counter({(totals.JOBS_CREATED, self.new.source.value): 1})
        for state, images in self.states.items():
            if state is not ImageState.OPEN:
                counts[totals.IMAGES_SETTLED, state.value] += images
        for code, images in self.errors.items():
            counts[totals.IMAGE_ERRORS, code] += images
        if not self.states[ImageState.OPEN]:
            counts[totals.JOBS_FINISHED, self._end.value] += 1
        return counts

    @property
    def _end(self) -> JobState:
        """What a job is that has nothing to do."""
        return JobState.FAILED if self.states[ImageState.FAILED] else JobState.COMPLETED

    def rows(self, job_id: int, now: datetime) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
        """What goes into the other tables, made as it is asked for; rows of one list have the same columns."""
        yield from _sliced(Visit.__table__, (self._visit(job_id, seq, now) for seq in range(len(self.new.visits))))
        yield from _sliced(Chunk.__table__, (self._chunk(job_id, seq, now) for seq in range(len(self.chunk_starts))))
        images = chain(
            _images_of_visits(self.new.visits, self.is_open, now),
            (_plain_image(image, now) for image in self.new.images),
        )
        yield from _sliced(Image.__table__, ({"job_id": job_id, "seq": seq} | row for seq, row in enumerate(images)))

    def _visit(self, job_id: int, seq: int, now: datetime) -> dict[str, Any]:
        visit, is_open = self.new.visits[seq], self.is_open[seq]
        row = {
            "job_id": job_id,
            "seq": seq,
            "owner_id": access.current().owner_id,
            "store_id": visit.store_id,
            "visited_at": visit.visited_at,
            "visited_as_sent": visit.visited_as_sent,
            "state": VisitState.OPEN if is_open else VisitState.FAILED,
            "images_total": len(visit.urls),
            "images_open": len(visit.urls) if is_open else 0,
            "images_failed": 0 if is_open else len(visit.urls),
            "images_cancelled": 0,
            "perimeter": 0,
            "seconds": 0.0,
            "settled_at": None if is_open else now,
            "version": 0 if is_open else 1,
        }
        return row | (dict.fromkeys(UNKNOWN_STORE) if is_open else UNKNOWN_STORE)

    def _chunk(self, job_id: int, seq: int, now: datetime) -> dict[str, Any]:
        first = self.chunk_starts[seq]
        images = min(self.chunk_size, self.states.total() - first)
        return {"job_id": job_id, "seq": seq, "first_image": first, "images": images, "due_at": now, "claim": 0}


def _states(new: NewJob, is_open: Sequence[bool]) -> Iterator[tuple[ImageState, str | None]]:
    """The state of each image, and its error code, in the order as sent."""
    of_open, of_unknown = (ImageState.OPEN, None), (ImageState.FAILED, UNKNOWN_STORE["error_code"])
    for visit, is_known in zip(new.visits, is_open, strict=True):
        yield from repeat(of_open if is_known else of_unknown, len(visit.urls))
    yield from ((image.state, image.error_code) for image in new.images)


def _images_of_visits(visits: Iterable[NewVisit], is_open: Sequence[bool], now: datetime) -> Iterator[dict[str, Any]]:
    failed = {"state": ImageState.FAILED, "attempts": 0, "settled_at": now} | UNKNOWN_STORE
    for seq, visit in enumerate(visits):
        rest = {"state": ImageState.OPEN, "attempts": 0} if is_open[seq] else failed
        for url in visit.urls:
            yield {"visit_seq": seq, "url": url, **rest}


_COLUMNS = list(NewImage.__dataclass_fields__)


def _plain_image(image: NewImage, now: datetime) -> dict[str, Any]:
    """What is not known is not named: a None would be stored as JSON's null in some columns."""
    row = {name: value for name in _COLUMNS if (value := getattr(image, name)) is not None}
    return row | ({"attempts": 0} if image.state is ImageState.OPEN else {"attempts": 1, "settled_at": now})


def _sliced(table: Any, rows: Iterator[dict[str, Any]]) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """The rows some at a time, those with the same columns together."""
    while some := list(islice(rows, ROWS_A_STATEMENT)):
        alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in some:
            alike.setdefault(tuple(row), []).append(row)
        for same in alike.values():
            yield table, same


def chunk_size(images: int) -> int:
    """How many images a chunk has where so many are to be worked on."""
    return min(settings.CHUNK_SIZE, max(LEAST_CHUNK, images // CHUNKS_A_JOB))
