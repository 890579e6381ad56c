"""What is done to an image: pure modules, see ``contract``. A processor counts once it stands in ``REGISTERED``."""

from __future__ import annotations

from collections.abc import Iterable

from app.processors import (
    average_pixel,
    barcodes,
    contract,
    detector,
    exif,
    info,
    perceptual_hash,
    perimeter,
    quality,
    tensor,
)
from app.processors.image_file import DecodeLimits, ImageFile

# Jobs name those they want by their NAME.
REGISTERED = (
    perimeter,
    info,
    average_pixel,
    tensor,
    exif,
    barcodes,
    quality,
    perceptual_hash,
    detector,
)

BY_NAME = contract.by_name(REGISTERED)


def find(names: Iterable[str]) -> tuple[contract.Processor, ...]:
    """The processors of these names; one that is not there is ``contract.Missing``, whose result says so."""
    return tuple(BY_NAME.get(name) or contract.Missing(name) for name in names)


def lane(names: Iterable[str]) -> str:
    """The lane of a job that wants these."""
    return next((lane for lane in map(contract.lane_of, find(names)) if lane != contract.PLAIN), contract.PLAIN)


def lanes() -> frozenset[str]:
    """All that there are."""
    return frozenset({contract.PLAIN, *map(contract.lane_of, BY_NAME.values())})


__all__ = ["BY_NAME", "REGISTERED", "DecodeLimits", "ImageFile", "find", "lane", "lanes", "perimeter"]
