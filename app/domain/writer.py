"""The writing part of the pump: outcomes go to the database in batches, leases are renewed."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence

import structlog
from sqlalchemy.exc import DBAPIError

from app.domain import chunk_leases, lifecycle
from app.domain.hands import Hands
from app.domain.outcomes import Outcome
from app.domain.works import ChunkLease
from app.errors import ImageError, UnavailableError
from app.models import ImageState

log = structlog.get_logger()

MOST_A_BATCH = 2000
# Of processors' results in one batch. Servers refuse statements longer than 16 MB (MariaDB's default), and a text
# within a text may double.
MOST_RESULTS_A_BATCH = 4 * 1024 * 1024
DATABASE_AWAY_SECONDS = 1.0
RENEWALS_A_LEASE = 4


class Writer:
    """``add``, ``give_back`` and ``close`` may be called by any thread; ``run`` is the writer's own."""

    def __init__(self, hands: Hands, flush_seconds: float, lease_seconds: float) -> None:
        self._hands = hands
        self._flush_seconds = flush_seconds
        self._lease_seconds = lease_seconds
        self._changed = threading.Condition()
        self._outcomes: list[Outcome] = []
        self._oldest_at = 0.0  # when the first of them came
        self._empty: list[ChunkLease] = []  # claimed chunks that held nothing to do
        self._is_closed = False
        self._renewed_at = time.monotonic()
        self._writing_since: float | None = None
        self.written = 0  # outcomes that the database has taken, or refused for good

    def add(self, done: Sequence[Outcome]) -> None:
        with self._changed:
            was_empty = not self._outcomes
            if was_empty:
                self._oldest_at = time.monotonic()
            self._outcomes.extend(done)
            # Waking the writer for each image would cost more than writing it.
            if was_empty or not self._has_company_coming():
                self._changed.notify()

    def give_back(self, leases: Sequence[ChunkLease]) -> None:
        """Chunks to be released without a result."""
        with self._changed:
            self._empty.extend(leases)
            self._changed.notify()

    def close(self) -> None:
        """Nothing more will be added: ``run`` ends once the rest is written."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    @property
    def is_held_up(self) -> bool:
        """Whether the database has kept it waiting, away or locked, for so long that leases go without renewal.

        Whatever else was claimed would run out unwritten, and be worked on in vain by one worker after the other.
        """
        since = self._writing_since
        return since is not None and time.monotonic() - since > self._lease_seconds / RENEWALS_A_LEASE

    def run(self) -> None:
        """Write batches until closed; what cannot be written yet is kept while the database is away."""
        while True:
            batch, empty, is_last = self._next_batch()
            self._writing_since = time.monotonic()
            if batch or empty:
                self._persist(batch, empty)
            self._renew()
            self._writing_since = None
            if is_last:
                self._release_rest()
                return

    def _next_batch(self) -> tuple[list[Outcome], list[ChunkLease], bool]:
        """Wait for outcomes, then for company: none longer than ``flush_seconds``, nor once nothing else is held."""
        with self._changed:
            if not (self._outcomes or self._empty or self._is_closed):
                self._changed.wait(self._lease_seconds / RENEWALS_A_LEASE / 2)
            # What came while the last batch was being written has waited already.
            while self._has_company_coming() and (left := self._oldest_at + self._flush_seconds - time.monotonic()) > 0:
                self._changed.wait(left)
            count = _count(self._outcomes)
            batch, self._outcomes = self._outcomes[:count], self._outcomes[count:]
            empty, self._empty = self._empty, []
            return batch, empty, self._is_closed and not self._outcomes

    def _has_company_coming(self) -> bool:
        waiting = len(self._outcomes)
        return bool(waiting) and not self._is_closed and waiting < min(MOST_A_BATCH, self._hands.images)

    def _persist(self, batch: list[Outcome], empty: list[ChunkLease]) -> None:
        finished = [*self._hands.finish(outcome.work for outcome in batch), *empty]
        while True:
            try:
                self._settle(batch, finished)
                self.written += len(batch)
                return
            except UnavailableError:
                log.warning("results kept", reason="the database is away", results=len(batch))
                if self._is_closed:
                    return  # the leases run out, and others do these images again
                time.sleep(DATABASE_AWAY_SECONDS)

    def _settle(self, batch: Sequence[Outcome], finished: Collection[ChunkLease]) -> None:
        try:
            settlement = lifecycle.settle(batch, finished)
        except DBAPIError as error:
            self._settle_in_parts(batch, finished, error)
            return
        if settlement.refused:
            log.warning(
                "results refused", results=settlement.refused, reason="their lease ran out or their job was cancelled"
            )
        for job_id in settlement.closed_jobs:
            log.info("job closed", job_id=job_id)

    def _settle_in_parts(self, batch: Sequence[Outcome], finished: Collection[ChunkLease], error: DBAPIError) -> None:
        """A row that the database refuses must not take its neighbours along: halve the batch until it stands alone."""
        if not batch:
            raise error
        if len(batch) == 1:
            log.error("result not storable", job_id=batch[0].work.job_id, image=batch[0].work.seq, exc_info=error)
            reason = ImageError("internal_error", "The result could not be stored.")
            lifecycle.settle([_without_result(batch[0], reason)], finished)
            return
        middle = len(batch) // 2
        # A chunk goes back with the last of its outcomes: should we die in between, none stays behind a closed job.
        later = {(outcome.work.chunk, outcome.work.token) for outcome in batch[middle:]}
        self._settle(batch[:middle], [lease for lease in finished if lease not in later])
        self._settle(batch[middle:], [lease for lease in finished if lease in later])

    def _renew(self) -> None:
        if time.monotonic() - self._renewed_at < self._lease_seconds / RENEWALS_A_LEASE:
            return
        self._renewed_at = time.monotonic()
        if leases := self._hands.leases():
            try:
                chunk_leases.renew(leases, lease_seconds=self._lease_seconds)
            except UnavailableError:
                log.warning("leases not renewed", reason="the database is away", leases=len(leases))

    def _release_rest(self) -> None:
        if leases := self._hands.leases():
            try:
                chunk_leases.release(leases)
            except UnavailableError:
                log.warning("leases not released", reason="the database is away", leases=len(leases))


def _count(outcomes: Sequence[Outcome]) -> int:
    """How many of these make one batch, at least one."""
    count, size = 0, 0
    for outcome in outcomes[:MOST_A_BATCH]:
        size += len(outcome.results or "")
        if count and size > MOST_RESULTS_A_BATCH:
            break
        count += 1
    return count


def _without_result(outcome: Outcome, reason: ImageError) -> Outcome:
    return Outcome(outcome.work, ImageState.FAILED, error_code=reason.code, error_message=reason.message)
