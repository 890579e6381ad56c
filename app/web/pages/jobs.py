"""Jobs, one job, one image, and what can be done with a job."""

from __future__ import annotations

import json
from collections.abc import Iterator

from flask import Response, stream_with_context, url_for

from app.domain import cancellations, jobs, listings, reports, retries, statuses
from app.domain.jobs import JobFilter
from app.domain.listings import ImageFilter
from app.domain.retries import RetryFilter
from app.extensions import settings
from app.models import JobSource, JobState
from app.web.auth import needs
from app.web.pages.base import blueprint
from app.web.rendering import page, see
from app.web.requests import validated
from app.web.schemas import pages as schemas

JOBS_A_PAGE = 50
IMAGES_A_PAGE = 50
STORES_A_PAGE = 50


@blueprint.get("/jobs", endpoint="jobs")
@validated
def find_jobs(query: schemas.JobsQuery) -> Response:
    wanted = JobFilter(query.state, query.store, query.start, query.end)
    found, following = statuses.find(wanted, cursor=query.cursor, per_page=JOBS_A_PAGE)
    return page(
        "jobs/list.html",
        fragment="jobs/_list.html",
        section="pages.jobs",
        found=found,
        next=following,
        query=query,
        states=JobState,
        is_narrowed=wanted != JobFilter(),
    )


@blueprint.get("/jobs/<int:job_id>", endpoint="job")
@validated
def get_job(path: schemas.JobPath, query: schemas.JobQuery) -> Response:
    progress = statuses.get(path.job_id, with_stores=False)
    wanted = ImageFilter(query.state, query.code, query.visit)
    images, following = listings.find_images(path.job_id, wanted, cursor=query.cursor, per_page=IMAGES_A_PAGE)
    return page(
        "jobs/job.html",
        fragment="jobs/_job.html",
        section="pages.jobs",
        progress=progress,
        job=progress.job,
        errors=listings.count_errors(path.job_id),
        can_report=reports.can_show(progress.job),
        report=reports.find(progress.job),
        images=images,
        next=following,
        query=query,
    )


@blueprint.post("/jobs/<int:job_id>/report", endpoint="report")
@validated
def ask_for_report(path: schemas.JobPath) -> Response:
    reports.ask(path.job_id)
    return see(url_for(".job", job_id=path.job_id, _anchor="report"))


@blueprint.get("/jobs/<int:job_id>/stores", endpoint="job_stores")
@validated
def find_job_stores(path: schemas.JobPath, query: schemas.PageQuery) -> Response:
    progress = statuses.get(path.job_id, with_stores=False)
    stores, has_more = listings.find_stores(path.job_id, page=query.page, per_page=STORES_A_PAGE)
    return page(
        "jobs/stores.html",
        section="pages.jobs",
        progress=progress,
        job=progress.job,
        stores=stores,
        number=query.page,
        has_more=has_more,
    )


@blueprint.get("/jobs/<int:job_id>/request", endpoint="job_request")
@validated
def get_job_request(path: schemas.JobPath) -> Response:
    progress = statuses.get(path.job_id, with_stores=False)
    sent = listings.rebuild_request(path.job_id) if progress.job.source is JobSource.URLS else iter(())
    visits = [_as_sent(*each) for _, each in zip(range(3), sent, strict=False)]
    return page("jobs/request.html", section="pages.jobs", progress=progress, job=progress.job, visits=visits)


@blueprint.get("/jobs/<int:job_id>/request.json", endpoint="job_request_file")
@validated
def download_job_request(path: schemas.JobPath) -> Response:
    """The body as it was submitted, rebuilt from what is stored."""
    job = jobs.get(path.job_id)

    def written() -> Iterator[str]:
        asked = {"metadata": job.client_metadata, "processors": job.processors, "callback_url": job.callback_url}
        head: dict[str, object] = {"count": job.visits_total, "priority": job.priority, "keep_images": job.keep_images}
        head |= {name: value for name, value in asked.items() if value is not None}
        yield f'{json.dumps(head, ensure_ascii=False)[:-1]}, "visits": ['
        for number, each in enumerate(listings.rebuild_request(job.id)):
            yield ("," if number else "") + "\n" + json.dumps(_as_sent(*each), ensure_ascii=False)
        yield "]}\n"

    disposition = f'attachment; filename="job-{job.id}-request.json"'
    answer = Response(stream_with_context(written()), mimetype="application/json")
    answer.headers["Content-Disposition"] = disposition
    return answer


def _as_sent(visit: listings.SentVisit, urls: list[str]) -> dict[str, object]:
    return {"store_id": visit.store_id, "visit_time": visit.visited_as_sent, "image_url": urls}


@blueprint.get("/jobs/<int:job_id>/images/<int:seq>", endpoint="image")
@validated
def get_image(path: schemas.ImagePath) -> Response:
    found = listings.get_image(path.job_id, path.seq)
    return page(
        "jobs/image.html",
        section="pages.jobs",
        found=found,
        job=found.job,
        image=found.image,
        # A link into a bucket leads to another site, whose pictures the policy of our pages keeps out.
        is_shown_here=not settings.FILES_LINK_SECONDS,
    )


@blueprint.get("/jobs/<int:job_id>/cancel", endpoint="ask_cancel")
@needs("submit")
@validated
def ask_cancel(path: schemas.JobPath) -> Response:
    return page("jobs/cancel.html", section="pages.jobs", job=jobs.get(path.job_id))


@blueprint.post("/jobs/<int:job_id>/cancel", endpoint="cancel")
@validated
def cancel(path: schemas.JobPath) -> Response:
    cancellations.cancel(path.job_id)
    is_stopped = jobs.get(path.job_id).state is not JobState.ONGOING
    return see(url_for(".job", job_id=path.job_id, did="cancelled" if is_stopped else "stopping"))


@blueprint.get("/jobs/<int:job_id>/retry", endpoint="ask_retry")
@needs("submit")
@validated
def ask_retry(path: schemas.JobPath, query: schemas.RetryQuery) -> Response:
    job = jobs.get(path.job_id)
    return page(
        "jobs/retry.html",
        section="pages.jobs",
        job=job,
        query=query,
        preview=retries.preview(path.job_id, _retry_filter(query)),
    )


@blueprint.post("/jobs/<int:job_id>/retry", endpoint="retry")
@validated
def retry(path: schemas.JobPath, query: schemas.RetryQuery) -> Response:
    done = retries.retry(path.job_id, _retry_filter(query))
    return see(url_for(".job", job_id=path.job_id, did="retried", images=done.reopened))


def _retry_filter(query: schemas.RetryQuery) -> RetryFilter:
    return RetryFilter(
        [query.code] if query.code else None, [query.store] if query.store else None, with_cancelled=query.cancelled
    )
