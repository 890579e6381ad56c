"""Jobs by URL: submit, status, what became of each image, cancel and retry."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from flask import Response, url_for
from flask_openapi import APIBlueprint, Tag

from app.domain import cancellations, jobs, listings, retries, statuses
from app.domain.jobs import JobFilter, NewJob, NewVisit
from app.domain.listings import ErrorGroup, ImageFilter
from app.domain.retries import RetryFilter
from app.domain.statuses import Status
from app.domain.turns import PRIORITY_NORMAL
from app.errors import InvalidRequestError, NotFoundError
from app.models import Image, Job, JobSource, JobState
from app.web.documents import jobs as documents
from app.web.requests import answer, idempotency, validated
from app.web.schemas import jobs as schemas

blueprint = APIBlueprint(
    "jobs", __name__, abp_tags=[Tag(name="jobs", description="Submit images and see how far they are")]
)

# How soon asking for the status is worth while.
POLL_SECONDS = 2
JOB_ID = re.compile(r"\d{1,19}", re.ASCII)


@blueprint.post("/api/submit/", **documents.submit)
@validated
def submit(body: schemas.SubmitBody) -> Response:
    """Create a job."""
    created = jobs.create(_new_job(body), idempotency())
    shown = schemas.SubmitAnswer(job_id=created.job_id)
    if created.callback_secret:
        shown.callback_secret = created.callback_secret
    return answer(shown, 201, _come_back(created.job_id))


def _new_job(body: schemas.SubmitBody) -> NewJob:
    if body.count != len(body.visits):
        raise InvalidRequestError(f"count does not match: it says {body.count}, there are {len(body.visits)} visits")
    visits = [
        NewVisit(visit.store_id, visit.visit_time.at, visit.visit_time.as_sent, visit.urls) for visit in body.visits
    ]
    priority = PRIORITY_NORMAL if body.priority is None else body.priority
    return NewJob(
        JobSource.URLS,
        visits,
        priority=priority,
        client_metadata=body.metadata,
        processors=body.processors,
        keep_images=bool(body.keep_images),
        callback_url=body.callback_url,
        callback_secret=body.callback_secret,
    )


def _come_back(job_id: int) -> dict[str, str]:
    return {"Location": url_for("jobs.status", jobid=job_id), "Retry-After": str(POLL_SECONDS)}


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


@blueprint.get("/api/jobs/<int:job_id>/errors", **documents.find_errors)
@validated
def find_errors(path: schemas.JobPath) -> Response:
    """Why images of a job failed: how many by each error code, and the first few of them."""
    found = [_as_error_group(group) for group in listings.find_errors(path.job_id)]
    return answer(schemas.ErrorsAnswer(job_id=path.job_id, results=found))


@blueprint.post("/api/jobs/<int:job_id>/cancel", **documents.cancel)
@validated
def cancel(path: schemas.JobPath) -> Response:
    """Stop a job: its open images are cancelled, results that are there stay."""
    cancellations.cancel(path.job_id, idempotency())
    found = statuses.get(path.job_id)
    # A very large job is still being stopped.
    return answer(_as_status(found), 202 if found.job.state is JobState.ONGOING else 200)


@blueprint.post("/api/jobs/<int:job_id>/retry", **documents.retry)
@validated
def retry(path: schemas.JobPath, body: schemas.RetryBody) -> Response:
    """Try images of a job again that failed, all or by reason; 202 where there are any."""
    wanted = RetryFilter(body.error_codes, body.store_ids, with_cancelled=body.cancelled)
    done = retries.retry(path.job_id, wanted, idempotency())
    shown = schemas.RetryAnswer(job_id=done.job_id, reopened=done.reopened, unknown_store=done.unknown_store)
    return answer(shown, 202, _come_back(done.job_id)) if done.reopened else answer(shown)


def _as_status(found: Status) -> schemas.StatusAnswer:
    shown = schemas.StatusAnswer(**_job_fields(found.job), percent=found.percent, eta_seconds=found.eta_seconds)
    if found.failed_images is not None:
        shown.failed_images = [schemas.ImageError(**asdict(image)) for image in found.failed_images]
    elif shown.status == "failed":
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
        "source": job.source,
        "visits": job.visits_total,
        "priority": job.priority,
        "processors": job.processors,
        "keep_images": job.keep_images,
        "metadata": job.client_metadata,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "cancelled_at": job.cancelled_at,
        "retried_at": job.retried_at,
        "links": schemas.Links(
            self=url_for("jobs.status", jobid=job.id),
            job=url_for("jobs.get_job", job_id=job.id),
            images=url_for("jobs.find_images", job_id=job.id),
            errors=url_for("jobs.find_errors", job_id=job.id),
            results=url_for("results.as_json", job_id=job.id),
        ),
    }


def _as_error_group(group: ErrorGroup) -> schemas.ErrorGroup:
    examples = [schemas.ErrorExample(seq=each.seq, url=each.url, error_message=each.message) for each in group.examples]
    return schemas.ErrorGroup(error_code=group.code, images=group.images, examples=examples)


def _as_image(image: Image) -> schemas.ImageAnswer:
    known: dict[str, Any] = {
        "client_ref": image.client_ref,
        "captured_at": image.captured_as_sent,
        "store_name": image.store_name,
        "store_id": image.store_id,
        "camera_id": image.camera_id,
        "barcode": image.barcode,
        "sha256": image.sha256,
        "file": image.storage_key and url_for("files.get", job_id=image.job_id, seq=image.seq),
        "results": image.results,
    }
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
        **{name: value for name, value in known.items() if value is not None},
    )
