"""How far a submission of the upload page is, and what was found on its photos."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.domain import photos, transactions, uploads
from app.domain.reports import BUILDING
from app.errors import NotFoundError
from app.extensions import settings
from app.models import Image, Job, JobState, Report, ReportState, Upload, UploadState
from app.reports.rows import Photo
from app.sql import db_now

LEAST_TO_TELL_FROM = 5
LEAST_SPREAD = 0.15
PHOTOS_A_PAGE = 24


@dataclass(frozen=True, slots=True)
class Overview:
    """How far a submission is. ``place`` is its place in the queue, from 1, while nothing of it has been begun."""

    upload: Upload
    job: Job | None
    report: Report | None
    now: datetime
    place: int | None

    @property
    def stage(self) -> str:
        """What is being done, in words that clients may compare."""
        if self.upload.state is UploadState.REFUSED:
            return "refused"
        if self.job is None:
            return "opening" if self.upload.claim else "queued"
        if self.job.state is JobState.ONGOING:
            return "processing" if self.job.started_at else "queued"
        states = {ReportState.DONE: "ready", ReportState.FAILED: "failed"}
        return states.get(self.report.state, BUILDING) if self.report else BUILDING

    @property
    def is_ready(self) -> bool:
        return self.stage == "ready"

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.stage in ("ready", "failed", "refused")

    @property
    def percent(self) -> float:
        """Of the images, settled; of a report that is being built, drawn."""
        total, done = self._counts
        return int(1000 * done / total) / 10 if total else 0.0

    @property
    def _counts(self) -> tuple[int, int]:
        if self.job is None:
            return 0, 0
        if self.stage == BUILDING:
            return self.job.images_total, self.report.images_done if self.report else 0
        return self.job.images_total, self.job.images_total - self.job.images_open

    @property
    def remaining(self) -> tuple[float, float] | None:
        """The least and the most seconds that what is under way still takes, by its rate so far.

        Of n things done the rate is known to about one part in the root of n; twice that either way. None while fewer
        than five are done, and where nothing is under way whose rate is known.
        """
        began = None
        if self.job is not None:
            began = {"processing": self.job.started_at, BUILDING: self.job.finished_at}.get(self.stage)
        total, done = self._counts
        if began is None or done < LEAST_TO_TELL_FROM or self.now <= began:
            return None
        left = (total - done) * (self.now - began).total_seconds() / done
        spread = max(LEAST_SPREAD, 2 / math.sqrt(done))
        return round(left * max(0.0, 1 - spread), 1), round(left * (1 + spread), 1)

    @property
    def delete_at(self) -> datetime | None:
        """When it will be deleted; None where that is not known yet, or never."""
        ended = self.job.finished_at if self.job else None
        return ended + timedelta(days=settings.RETENTION_DAYS) if ended and settings.RETENTION_DAYS else None


@dataclass(frozen=True, slots=True)
class Photos:
    """A page of the photos of a submission; ``labels`` are what was found on these, with how often."""

    photos: list[Photo]
    labels: dict[str, int]
    next: int | None


def get(upload_id: str) -> Overview:
    """How far a submission of the caller's is. Raises NotFoundError, also while its files are still collected."""

    def work(session: Session) -> Overview:
        upload = session.get(Upload, upload_id)
        if upload is None or upload.state is UploadState.COLLECTING or not uploads.is_visible(upload):
            raise NotFoundError("no such results, or they have been deleted")
        job = session.get(Job, upload.job_id) if upload.job_id else None
        report = session.get(Report, upload.job_id) if upload.job_id else None
        now = session.scalars(select(db_now())).one()
        return Overview(upload, job, report, now, _place(session, upload, job))

    return transactions.read(work)


def find_photos(found: Overview, *, after: int) -> Photos:
    """A page of the photos, behind the one with the number ``after``, each with what was found on it."""
    assert found.job is not None
    of_job = (Image.job_id == found.job.id) & (Image.seq > after)
    query = select(Image).where(of_job).order_by(Image.seq).limit(PHOTOS_A_PAGE + 1)
    images = transactions.read(lambda session: list(session.scalars(query).all()))
    shown = [photos.as_photo(image) for image in images[:PHOTOS_A_PAGE]]
    labels = Counter(detection["label"] for photo in shown for detection in photo.detections)
    following = shown[-1].seq if len(images) > PHOTOS_A_PAGE else None
    return Photos(shown, dict(labels.most_common()), following)


def _place(session: Session, upload: Upload, job: Job | None) -> int | None:
    """Behind the submissions handed in before it, of which images are left to be worked on."""
    if job is None:
        is_waiting = upload.state is UploadState.QUEUED and not upload.claim
    else:
        is_waiting = job.state is JobState.ONGOING and job.started_at is None
    if not is_waiting:
        return None
    is_open = (Upload.state == UploadState.QUEUED) | (Job.state == JobState.ONGOING)
    ahead = (
        select(func.count())
        .select_from(Upload)
        .outerjoin(Job, Job.id == Upload.job_id)
        .where(Upload.queued_at < upload.queued_at, is_open)
    )
    return 1 + (session.scalar(ahead) or 0)
