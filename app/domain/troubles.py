"""Where images fail just now: the latest failed images of the latest jobs that have some, by host and reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain import access, transactions
from app.models import Image, ImageState, Job

# No index has what failed last, and no page is to wait for one: so few are looked at.
JOBS_LOOKED_AT = 20
IMAGES_LOOKED_AT = 2000
STORED = "(stored)"  # what stands in for the host of an image that did not come by URL


@dataclass(frozen=True, slots=True)
class Troubles:
    images: int
    jobs: int
    by_host: list[tuple[str, str, int]]  # host, error code and images, most frequent first


def find() -> Troubles:
    """Reads at most ``IMAGES_LOOKED_AT`` failed images of ``JOBS_LOOKED_AT`` jobs."""
    return transactions.read(_find)


def _find(session: Session) -> Troubles:
    failing = select(Job.id).where(Job.images_failed > 0, access.is_visible(Job)).order_by(Job.id.desc())
    counts: Counter[tuple[str, str]] = Counter()
    jobs, left = 0, IMAGES_LOOKED_AT
    for job_id in session.scalars(failing.limit(JOBS_LOOKED_AT)).all():
        query = select(Image.url, Image.error_code).where(Image.job_id == job_id, Image.state == ImageState.FAILED)
        rows = session.execute(query.order_by(Image.seq.desc()).limit(left)).all()
        counts.update((_host(url), code or "") for url, code in rows)
        left -= len(rows)
        jobs += 1
        if left <= 0:
            break
    by_host = [(host, code, images) for (host, code), images in counts.most_common()]
    return Troubles(IMAGES_LOOKED_AT - left, jobs, by_host)


def _host(url: str | None) -> str:
    if url is None:
        return STORED
    try:
        return urlsplit(url).hostname or url[:80]
    except ValueError:
        return url[:80]
