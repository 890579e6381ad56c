"""Jobs by URL: submit, status, and what became of each image."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from flask import Response, request, url_for
from flask_openapi import APIBlueprint, Tag

from app.domain import jobs, listings, statuses
from app.domain.claims import PRIORITY_NORMAL
from app.domain.jobs import Idempotency, JobFilter, NewJob, NewVisit
from app.domain.listings import ImageFilter
from app.domain.statuses import Status
from app.errors import InvalidRequestError, NotFoundError
from app.models import Image, Job, JobSource, JobState
from app.web import documents, schemas
from app.web.requests import answer, validated

blueprint = APIBlueprint(
    "jobs", __name__, abp_tags=[Tag(name="jobs", description="Submit images and see how far they are")]
)

# How soon asking for the status is worth while.
POLL_SECONDS = 2
IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)
JOB_ID = re.compile(r"\d{1,19}", re.ASCII)


@blueprint.post("/api/submit/", **documents.submit)
@validated
def submit(body: schemas.SubmitBody) -> Response:
    """Create a job."""
    created = jobs.create(_new_job(body), _idempotency())
    headers = {"Location": url_for("jobs.status", jobid=created.job_id), "Retry-After": str(POLL_SECONDS)}
    return answer(schemas.SubmitAnswer(job_id=created.job_id), 201, headers)


def _new_job(body: schemas.SubmitBody) -> NewJob:
    if body.count != len(body.visits):
        raise InvalidRequestError(f"count does not match: it says {body.count}, there are {len(body.visits)} visits")
    visits = [
        NewVisit(visit.store_id, visit.visit_time.at, visit.visit_time.as_sent, visit.urls) for visit in body.visits
    ]
    priority = PRIORITY_NORMAL if body.priority is None else body.priority
    return NewJob(JobSource.URLS, visits, priority=priority, client_metadata=body.metadata)


def _idempotency() -> Idempotency | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not IDEMPOTENCY_KEY.fullmatch(key.strip()):
        raise InvalidRequestError("Idempotency-Key: must be 1 to 255 printable ASCII characters")
    return Idempotency(key.strip(), hashlib.sha256(request.get_data()).hexdigest())


@blueprint.get("/api/status", **documents.status)
@validated
def status(query: schemas.StatusQuery) -> Response:
    """How far a job is, and which stores failed."""
    if query.jobid is None:
        raise InvalidRequestError("jobid: is missing")
    if not JOB_ID.fullmatch(query.jobid.strip()):
        return _no_such_job()
    try:
        found = statuses.get(int(query.jobid))
    except NotFoundError:
        return _no_such_job()
    return answer(_as_status(found))


def _no_such_job() -> Response:
    """What pollers in the field know an unknown job by."""
    return Response("{}", 400, mimetype="application/json")


@blueprint.get("/api/jobs", **documents.find_jobs)
@validated
def find_jobs(query: schemas.JobsQuery) -> Response:
    """Jobs, newest first."""
    wanted = JobFilter(query.state, query.storeid, query.startdate, query.enddate)
    found, following = jobs.find(wanted, cursor=query.cursor, per_page=query.per_page)
    return answer(schemas.JobsAnswer(results=[_as_job(job) for job in found], next=following))


@blueprint.get("/api/jobs/<int:job_id>", **documents.get_job)
@validated
def get_job(path: schemas.JobPath) -> Response:
    """One job, as its status; 404 where there is none."""
    return answer(_as_status(statuses.get(path.job_id)))


@blueprint.get("/api/jobs/<int:job_id>/images", **documents.find_images)
@validated
def find_images(path: schemas.JobPath, query: schemas.ImagesQuery) -> Response:
    """The images of a job, in the order as sent."""
    wanted = ImageFilter(query.state, query.error_code)
    found, following = listings.find_images(path.job_id, wanted, cursor=query.cursor, per_page=query.per_page)
    return answer(schemas.ImagesAnswer(results=[_as_image(image) for image in found], next=following))


def _as_status(found: Status) -> schemas.StatusAnswer:
    shown = schemas.StatusAnswer(**_job_fields(found.job), percent=found.percent, eta_seconds=found.eta_seconds)
    if shown.status == "failed":
        shown.error = [schemas.StoreError(store_id=store.store_id, error=store.error) for store in found.failed_stores]
    return shown


def _as_job(job: Job) -> schemas.JobAnswer:
    return schemas.JobAnswer(**_job_fields(job))


def _job_fields(job: Job) -> dict[str, Any]:
    return {
        "status": "failed" if job.state is JobState.CANCELLED else job.state.value,
        "job_id": job.id,
        "state": job.state,
        "images": schemas.ImageCounts(
            total=job.images_total,
            open=job.images_open,
            done=job.images_done,
            failed=job.images_failed,
            cancelled=job.images_cancelled,
        ),
        "visits": job.visits_total,
        "priority": job.priority,
        "metadata": job.client_metadata,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "links": schemas.Links(
            self=url_for("jobs.status", jobid=job.id),
            job=url_for("jobs.get_job", job_id=job.id),
            images=url_for("jobs.find_images", job_id=job.id),
        ),
    }


def _as_image(image: Image) -> schemas.ImageAnswer:
    return schemas.ImageAnswer(
        seq=image.seq,
        visit=image.visit_seq,
        url=image.url,
        state=image.state,
        error_code=image.error_code,
        error_message=image.error_message,
        width=image.width,
        height=image.height,
        perimeter=image.perimeter,
        format=image.format,
        bytes=image.bytes,
        seconds=None if image.seconds is None else round(image.seconds, 3),
        attempts=image.attempts,
        next_attempt_at=image.next_attempt_at,
        settled_at=image.settled_at,
    )
