"""The images of the benchmark: distinct JPEGs of shelves, drawn by our own code, in two weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from demo import photos


@dataclass(frozen=True)
class Weight:
    """About how heavy a picture is, and the size in pixels and JPEG quality that make it so."""

    name: str
    size: tuple[int, int]
    quality: int

    @property
    def perimeter(self) -> int:
        return 2 * sum(self.size)


WEIGHTS = (Weight("200 KB", (1280, 960), 88), Weight("20 KB", (400, 300), 75))


@dataclass(frozen=True)
class Album:
    """Pictures of one weight, as they lie in a folder of the image host."""

    weight: Weight
    paths: tuple[str, ...]
    mean_bytes: float

    def urls(self, host: str, count: int) -> list[str]:
        """``count`` URLs, all different, which lead to the pictures in turn."""
        return [f"{host}/{path}?image={number}" for number, path in enumerate(_repeated(self.paths, count))]


def _repeated(paths: Iterable[str], count: int) -> Iterable[str]:
    return itertools.islice(itertools.cycle(paths), count)


def draw(root: Path, weight: Weight, count: int) -> Album:
    """Draw ``count`` pictures into a folder of their own under ``root``."""
    folder = root / weight.name.replace(" ", "")
    folder.mkdir()
    for seed in range(count):
        photos.draw(weight.size, seed).save(folder / f"{seed:03}.jpg", "JPEG", quality=weight.quality)
    files = sorted(folder.iterdir())
    paths = tuple(str(file.relative_to(root)) for file in files)
    return Album(weight, paths, sum(file.stat().st_size for file in files) / count)
