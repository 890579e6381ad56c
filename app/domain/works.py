"""What a worker works on: chunks that it has claimed, each image of them, and for how many it has room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from app.processors import contract


class ChunkKey(NamedTuple):
    job_id: int
    seq: int


# A chunk, and the token of the claim under which it is held.
ChunkLease = tuple[ChunkKey, int]


@dataclass(frozen=True, slots=True)
class Claim:
    """A chunk that this process may work on until its lease ends; ``token`` is what its results must name."""

    key: ChunkKey
    token: int
    work: tuple[Work, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job wants of each of its images beside the measures."""

    processors: tuple[str, ...] = ()
    keep: bool = False  # a fetched image goes to storage
    is_apart: bool = False  # one of the processors runs in a child process
    has_model: bool = False  # one of them does what the pause stands for
    queue: str | None = None  # on which list of Redis it is told, if on any
    is_slow: bool = False  # an image's body is held for a while after it was downloaded
    lane: str = contract.PLAIN  # whose places its images take, where they are slow


MEASURES = Wanted()


class Work(NamedTuple):
    """One image to be worked on. A tuple, since thousands a second are made: a frozen dataclass takes longer."""

    job_id: int
    seq: int
    chunk: ChunkKey
    token: int
    visit_seq: int | None
    url: str | None
    attempts: int  # before this one
    attempts_before: int = 0  # ... of which so many were made before the last retry
    storage_key: str | None = None  # where it is to be had from, if not None
    sha256: str | None = None  # of the file, where that is known
    wanted: Wanted = MEASURES
    is_suspect: bool = False  # of a chunk whose last worker died at it

    @property
    def is_apart(self) -> bool:
        """Whether it is opened in a child process only."""
        return self.is_suspect or self.wanted.is_apart

    @property
    def is_slow(self) -> bool:
        return self.is_suspect or self.wanted.is_slow


@dataclass(frozen=True, slots=True)
class Room:
    """For about how many images a worker has room, for how many that are slow, and for how many of other lanes."""

    images: int
    slow_images: int
    lanes: Mapping[str, int] = field(default_factory=dict)

    def of(self, wanted: Wanted) -> int:
        """For how many images of a job that wants this."""
        if not wanted.is_slow:
            return self.images
        return self.slow_images if wanted.lane == contract.PLAIN else self.lanes.get(wanted.lane, self.slow_images)

    def at_most(self, images: int) -> Room:
        """The same for no more than so many images."""
        return replace(self, images=min(self.images, images), slow_images=min(self.slow_images, images))
