"""Slow images in a worker: those of each lane have an inbox, places and child processes of their own.

So images that wait for the detector are passed by others, and pass these in turn. A lane of its own fills itself: only
that of the plain jobs shares its places with images that are quick.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.decoding import Children
from app.domain.works import Work

# Bodies that wait for a child or to be kept; what is being downloaded when they reach it comes on top.
MOST_HELD_BYTES = 128 * 1024 * 1024


@dataclass(eq=False)
class Lane:
    """Belongs to the conveyor's thread, but for ``inbox`` and what is only read. At most ``most`` are under way."""

    children: Children
    most: int
    inbox: deque[Work] = field(default_factory=deque)
    under_way: int = 0  # from the inbox to their pause
    held_bytes: int = 0

    @property
    def has_room(self) -> bool:
        """Whether so few images wait that it is time for the next ones."""
        return len(self.inbox) < self.most

    @property
    def room(self) -> int:
        """For how many images there is room, with as many again waiting as are under way."""
        return 2 * self.most - len(self.inbox)

    def startable(self) -> int:
        """How many of those that wait may start now."""
        if self.held_bytes >= MOST_HELD_BYTES:
            return 0
        return max(0, min(len(self.inbox), self.most - self.under_way))

    def start(self, count: int) -> Iterator[Work]:
        self.under_way += count
        for _ in range(count):
            yield self.inbox.popleft()

    def join(self, body: bytes) -> None:
        """An image that turned out to be slow, with its body."""
        self.under_way += 1
        self.hold(body)

    def hold(self, body: bytes) -> None:
        self.held_bytes += len(body)

    def drop(self, body: bytes) -> None:
        """The image is not under way any more, and its body is not held."""
        self.under_way -= 1
        self.held_bytes -= len(body)
