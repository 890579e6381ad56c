"""What an attempt on an image came to: read, to be tried again, or failed for good."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

from app.domain.works import Work
from app.errors import ImageError
from app.models import ImageState

# Bytes of an array; a field of that name would stand in the way of the type.
Tensor = bytes


class Outcome(NamedTuple):
    """One attempt on an image; a tuple as ``Work`` is. ``state`` OPEN means due again after ``delay_seconds``.

    ``is_attempt`` is False where it was put back untried. ``perimeter``, ``width`` and ``height`` are in pixels.
    """

    work: Work
    state: ImageState
    seconds: float | None = None
    error_code: str | None = None
    error_message: str | None = None
    delay_seconds: float | None = None
    is_attempt: bool = True
    width: int | None = None
    height: int | None = None
    perimeter: int | None = None
    format: str | None = None
    bytes: int | None = None
    results: str | None = None  # a JSON object by processor
    sha256: str | None = None
    storage_key: str | None = None  # where the fetched image was put
    tensor: Tensor | None = None  # where it goes on a list and not with the results

    @property
    def attempts_after(self) -> int:
        """How many attempts have been made on the image by now."""
        return self.work.attempts + self.is_attempt

    @property
    def has_more(self) -> bool:
        """Whether it has what only some jobs ask for."""
        return bool(self.results or self.sha256 or self.storage_key)


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after how long, a failure that may pass is tried again."""

    attempts: int
    base_seconds: float
    max_seconds: float

    def delay_seconds(self, attempt: int, retry_after: float | None) -> float:
        """The wait after attempt number ``attempt``: fourfold each time, jittered, at least what the host asked for."""
        grown = self.base_seconds * 4 ** (attempt - 1) * random.uniform(0.75, 1.25)
        return min(max(grown, retry_after or 0), self.max_seconds)


def failed(work: Work, error: ImageError, policy: RetryPolicy) -> Outcome:
    """The outcome of an attempt that raised ``error``: open again while the policy allows it, else failed.

    The policy counts from the last retry on.
    """
    attempt = work.attempts - work.attempts_before + 1
    if error.transient and attempt < policy.attempts:
        delay = policy.delay_seconds(attempt, error.retry_after)
        return Outcome(work, ImageState.OPEN, error_code=error.code, error_message=error.message, delay_seconds=delay)
    return Outcome(work, ImageState.FAILED, error_code=error.code, error_message=error.message)


def put_back(work: Work, delay_seconds: float = 0) -> Outcome:
    """The image was not tried, and is due again after the delay."""
    return Outcome(work, ImageState.OPEN, delay_seconds=delay_seconds, is_attempt=False)
