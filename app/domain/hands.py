"""What one worker process holds: its claimed chunks, and how many images of each job have not been started."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from app.domain.works import ChunkLease, Claim, Room, Wanted, Work


class Hands:
    """The account of a worker's claims; every method may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[ChunkLease, int] = {}  # images without an outcome
        self._untouched: Counter[int] = Counter()  # by job: images not on the wire yet
        self._wanted: dict[int, Wanted] = {}  # ... and what these jobs want
        self._images = 0

    def take(self, claims: Iterable[Claim]) -> None:
        with self._lock:
            for claim in claims:
                self._open[claim.key, claim.token] = len(claim.work)
                self._untouched[claim.key.job_id] += len(claim.work)
                self._images += len(claim.work)
                if claim.work:
                    self._wanted[claim.key.job_id] = claim.work[0].wanted

    def start(self, works: Iterable[Work]) -> None:
        """These images have left the waiting room: they have been downloaded, or were put back."""
        with self._lock:
            for work in works:
                self._untouched[work.job_id] -= 1
                if not self._untouched[work.job_id]:
                    del self._untouched[work.job_id]
                    self._wanted.pop(work.job_id, None)

    def finish(self, works: Iterable[Work]) -> list[ChunkLease]:
        """Strike out images that have an outcome; returns the chunks that have none left."""
        finished = []
        with self._lock:
            for work in works:
                self._images -= 1
                lease = (work.chunk, work.token)
                self._open[lease] -= 1
                if not self._open[lease]:
                    del self._open[lease]
                    finished.append(lease)
        return finished

    def leases(self) -> list[ChunkLease]:
        with self._lock:
            return list(self._open)

    def stuck_jobs(self, most: Room) -> list[int]:
        """Jobs with at least so many images waiting here: their hosts, or what is done to them, is slow.

        More of them would only pile up.
        """
        with self._lock:
            return [job for job, waiting in self._untouched.items() if waiting >= most.of(self._wanted[job])]

    @property
    def images(self) -> int:
        """Images that have no outcome written or about to be written."""
        return self._images

    @property
    def is_empty(self) -> bool:
        return not self._open
