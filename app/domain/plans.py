"""What a door hands in, and the rows that become of it: a job with its visits, chunks and images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app import processors
from app.domain import access, totals
from app.domain.claims import PRIORITY_NORMAL
from app.domain.feeds import Feed
from app.extensions import settings
from app.models import Chunk, Image, ImageState, JobSource, JobState, Visit, VisitState

# A job comes in about so many pieces, so that every worker gets one; each is worth a claim of its own.
CHUNKS_A_JOB = 16
LEAST_CHUNK = 10
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
    results: dict[str, Any] | None = None  # by processor: {"version", "result" or "error"}


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job of the caller's has either visits or images of its own; ``processors`` None measures the images only."""

    source: JobSource
    visits: Sequence[NewVisit] = ()
    images: Sequence[NewImage] = ()
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
    """The rows of a job that is about to be created; ``images`` by seq, without their keys."""

    new: NewJob
    is_open: list[bool]  # by the seq of the visit: its store is known
    images: list[dict[str, Any]]
    chunk_starts: list[int]
    chunk_size: int

    @classmethod
    def of(cls, new: NewJob, stores: set[str], now: datetime) -> Plan:
        is_open = [visit.store_id in stores for visit in new.visits]
        images = [*_images_of_visits(new.visits, is_open, now), *(_plain_image(image, now) for image in new.images)]
        open_images = [seq for seq, image in enumerate(images) if image["state"] is ImageState.OPEN]
        size = chunk_size(len(open_images))
        # Chunks are equal stretches of the images as sent; one in which no image is open has no work.
        starts = sorted({seq - seq % size for seq in open_images})
        return cls(new, is_open, images, starts, size)

    def job(self, submission: str, turn: int, now: datetime) -> dict[str, Any]:
        images = dict.fromkeys(ImageState, 0)
        for image in self.images:
            images[image["state"]] += 1
        is_ongoing = images[ImageState.OPEN] > 0
        ended = JobState.FAILED if images[ImageState.FAILED] else JobState.COMPLETED
        row: dict[str, Any] = {
            "submission": submission,
            "source": self.new.source,
            "owner_id": access.current().owner_id,
            "state": JobState.ONGOING if is_ongoing else ended,
            "priority": self.new.priority,
            "lane": self.new.lane,
            "turn": turn,
            "keep_images": self.new.keep_images,
            "callback_url": self.new.callback_url,
            "visits_total": len(self.new.visits),
            "images_total": len(self.images),
            "images_open": images[ImageState.OPEN],
            "images_done": images[ImageState.DONE],
            "images_failed": images[ImageState.FAILED],
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
        settled = [image for image in self.images if image["state"] is not ImageState.OPEN]
        for image in settled:
            counts[totals.IMAGES_SETTLED, image["state"].value] += 1
            if image.get("error_code"):
                counts[totals.IMAGE_ERRORS, image["error_code"]] += 1
        if len(settled) == len(self.images):
            has_failed = any(image["state"] is ImageState.FAILED for image in settled)
            counts[totals.JOBS_FINISHED, (JobState.FAILED if has_failed else JobState.COMPLETED).value] += 1
        return counts

    def rows(self, job_id: int, now: datetime) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
        """What goes into the other tables; rows of one list have the same columns."""
        yield Visit.__table__, [self._visit(job_id, seq, now) for seq in range(len(self.new.visits))]
        yield Chunk.__table__, [self._chunk(job_id, seq, now) for seq in range(len(self.chunk_starts))]
        alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for seq, image in enumerate(self.images):
            alike.setdefault(tuple(image), []).append({"job_id": job_id, "seq": seq} | image)
        for images in alike.values():
            yield Image.__table__, images

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
        images = min(self.chunk_size, len(self.images) - first)
        return {"job_id": job_id, "seq": seq, "first_image": first, "images": images, "due_at": now, "claim": 0}


def _images_of_visits(visits: Iterable[NewVisit], is_open: Sequence[bool], now: datetime) -> Iterator[dict[str, Any]]:
    failed = {"state": ImageState.FAILED, "attempts": 0, "settled_at": now} | UNKNOWN_STORE
    for seq, visit in enumerate(visits):
        rest = {"state": ImageState.OPEN, "attempts": 0} if is_open[seq] else failed
        for url in visit.urls:
            yield {"visit_seq": seq, "url": url, **rest}


# Where a None would be stored as JSON's null.
_JSON_COLUMNS = ("results", "client_metadata")
_PLAIN_COLUMNS = [name for name in NewImage.__dataclass_fields__ if name not in _JSON_COLUMNS]


def _plain_image(image: NewImage, now: datetime) -> dict[str, Any]:
    row = {name: getattr(image, name) for name in _PLAIN_COLUMNS}
    is_settled = image.state is not ImageState.OPEN
    row |= {"attempts": int(is_settled), "settled_at": now if is_settled else None}
    return row | {name: value for name in _JSON_COLUMNS if (value := getattr(image, name)) is not None}


def chunk_size(images: int) -> int:
    """How many images a chunk has where so many are to be worked on."""
    return min(settings.CHUNK_SIZE, max(LEAST_CHUNK, images // CHUNKS_A_JOB))
