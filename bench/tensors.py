"""``python -m bench.tensors``: what a tensor costs on queue:batch in each form, in bytes and in time."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from app.domain import entries
from app.domain.entries import Told
from app.domain.feeds import DType, Encoding, Feed, Queue
from app.models import Image, ImageState

IMAGES = 100
ROUNDS = 5


def main() -> None:
    numbers = np.random.default_rng(1)
    batch = [
        Told(
            Image(job_id=1, seq=seq, client_ref=str(seq), url=f"https://host/{seq}.jpg", state=ImageState.DONE),
            numbers.integers(0, 256, 3 * 64 * 64, np.uint8).tobytes(),
        )
        for seq in range(IMAGES)
    ]
    print("dtype    encoding  kB a tensor  ms to make  ms to read")
    for dtype in DType:
        for encoding in Encoding:
            feed = Feed(Queue.BATCH, IMAGES, dtype, encoding)
            text, make = _timed(partial(entries.of_batch, batch, feed))
            _, read = _timed(partial(_read, text, dtype))
            print(f"{dtype:8} {encoding:8} {len(text) / IMAGES / 1000:12.1f} {make:11.2f} {read:11.2f}")


def _read(text: str, dtype: str) -> np.ndarray:
    entry = json.loads(text)
    if "images" in entry:
        return np.array(entry["images"], dtype)
    return np.frombuffer(base64.b64decode(entry["data"]), dtype).reshape(entry["shape"])


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and milliseconds a tensor, the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        found = work()
        best = min(best, time.perf_counter() - start)
    return found, 1000 * best / IMAGES


if __name__ == "__main__":
    main()
