"""Entries of the lists that consumers of manifests read, as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.domain import manifests
from app.domain.feeds import DType, Encoding, Feed
from app.models import Image, ImageState
from app.processors import tensor

SHAPE = (3, tensor.SIZE, tensor.SIZE)  # channel, height, width
# What each byte is as a float32 from 0 to 1, and as the shortest text that is read as the same float32 again.
UNIT = np.arange(256, dtype="<f4") / np.float32(255)
DIGITS = {
    DType.UINT8: [str(value) for value in range(256)],
    DType.FLOAT32: [str(value) for value in UNIT],
}


@dataclass(frozen=True, slots=True)
class Told:
    """An image and its tensor, the bytes of an array of SHAPE; without one it counts as failed in a batch."""

    image: Image
    tensor: bytes | None = None

    @property
    def has_failed(self) -> bool:
        return self.image.state is not ImageState.DONE or self.tensor is None


def of_image(image: Image) -> str:
    """By its id what became of it; its job and its place in it tell an entry that comes a second time."""
    told = manifests.entry(image) | {"job_id": image.job_id, "image_id": image.seq} | _cancelled(image)
    return json.dumps({str(image.client_ref): told}, ensure_ascii=False)


def _cancelled(image: Image) -> dict[str, bool]:
    """Of the errors that consumers know none means that nobody wanted it any more."""
    return {"cancelled": True} if image.state is ImageState.CANCELLED else {}


def of_batch(batch: Sequence[Told], feed: Feed) -> str:
    """The tensors of these images as one array, and what became of those that have none."""
    good = [told for told in batch if not told.has_failed]
    shape = (len(good), *SHAPE)
    facts: dict[str, Any] = {
        "batch_dimension": str(shape),
        "job_id": batch[0].image.job_id,
        "ids": [told.image.client_ref for told in good],
        "image_ids": [told.image.seq for told in good],
        "failed": [_failure(told.image) for told in batch if told.has_failed],
        "dtype": feed.dtype.value,
        "shape": shape,
    }
    data = b"".join(told.tensor or b"" for told in good)
    if feed.encoding is Encoding.BASE64:
        raw = UNIT[np.frombuffer(data, np.uint8)].tobytes() if feed.dtype is DType.FLOAT32 else data
        return json.dumps(facts | {"data": base64.b64encode(raw).decode()}, ensure_ascii=False)
    head = json.dumps(facts, ensure_ascii=False)
    return f'{head[:-1]}, "images": {_nested(data, shape, DIGITS[feed.dtype])}}}'


def _failure(image: Image) -> dict[str, Any]:
    told = manifests.entry(image)
    error = told.get("error", manifests.NOT_OPENED)  # its header could be read, its pixels could not
    return {"id": image.client_ref, "image_id": image.seq, "url": image.url, "error": error} | _cancelled(image)


def _nested(data: bytes, shape: Sequence[int], digits: Sequence[str]) -> str:
    """The bytes as nested lists, each number looked up as text: floats made one by one would be longer, and slower."""
    if len(shape) == 1:
        return f"[{','.join(map(digits.__getitem__, data))}]"
    step = len(data) // shape[0] if shape[0] else 0
    parts = (_nested(data[place * step : (place + 1) * step], shape[1:], digits) for place in range(shape[0]))
    return f"[{','.join(parts)}]"
