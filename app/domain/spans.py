"""The images of chunks: those of chunks that lie side by side are one span of the table, and one query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Executable, and_, bindparam, or_
from sqlalchemy.orm import Session

from app.models import Image, ImageState

# For statements that are built once: ``find`` says which job and which span.
is_open = and_(
    Image.job_id == bindparam("of_job"),
    Image.seq.between(bindparam("first"), bindparam("last")),
    Image.state == ImageState.OPEN,
)


def find(session: Session, query: Executable, job_id: int, chunks: Iterable[Any]) -> list[Any]:
    """What a query of images that ``is_open`` finds in these chunks, which know ``first_image`` and ``images``."""
    spans = ({"of_job": job_id, "first": first, "last": last} for first, last in _of(chunks))
    return [row for span in spans for row in session.execute(query, span)]


def is_in(job_id: int, chunks: Sequence[Any]) -> ColumnElement[bool]:
    """Whether an image lies in one of these chunks."""
    ranges = _of(chunks)
    # Bounds for all of them, since SQLite would else walk the whole job for ranges that are joined by OR.
    is_near = Image.seq.between(min(first for first, _ in ranges), max(last for _, last in ranges))
    return and_(Image.job_id == job_id, is_near, or_(*(Image.seq.between(*each) for each in ranges)))


def _of(chunks: Iterable[Any]) -> list[tuple[int, int]]:
    """The first and the last image of each run of chunks that lie side by side, in order."""
    spans: list[tuple[int, int]] = []
    for first, images in sorted((chunk.first_image, chunk.images) for chunk in chunks):
        if spans and spans[-1][1] == first - 1:
            spans[-1] = (spans[-1][0], first + images - 1)
        else:
            spans.append((first, first + images - 1))
    return spans
