"""Reports of jobs of any door that ran the detector: asked for, told of, handed out."""

from __future__ import annotations

from flask import Response, url_for
from flask_openapi import APIBlueprint, Tag

from app.domain import report_files, reports
from app.domain.reports import Standing
from app.errors import NotFoundError, ReportFailedError
from app.models import ReportState
from app.web import files
from app.web.documents import reports as documents
from app.web.requests import answer, validated
from app.web.schemas import reports as schemas
from app.web.schemas.jobs import JobPath

blueprint = APIBlueprint("reports", __name__, abp_tags=[Tag(name="results", description="Whole jobs as files")])

POLL_SECONDS = 2


@blueprint.post("/api/jobs/<int:job_id>/report", **documents.ask)
@validated
def ask(path: JobPath) -> Response:
    """Have a report built once the job has ended; asked again it says how far it is, or begins one anew that failed."""
    found = reports.ask(path.job_id)
    headers = {"Location": url_for(".get", job_id=path.job_id, _external=True)}
    return _told(found, 200 if found.is_ready else 202, headers)


@blueprint.get("/api/jobs/<int:job_id>/report", **documents.get)
@validated
def get(path: JobPath) -> Response:
    """How far the report of a job is, and where its files are."""
    return _told(reports.standing(path.job_id), 200, {})


@blueprint.get("/api/jobs/<int:job_id>/report.<ending>", **documents.download)
@validated
def download(path: schemas.ReportFilePath) -> Response:
    """One of the files of a report: zip, xlsx, csv, json."""
    if path.ending not in report_files.TYPES:
        raise NotFoundError("no such file")
    found = reports.standing(path.job_id)
    if found.report.state is ReportState.FAILED:
        raise ReportFailedError(str(found.report.error_message))
    if not found.is_ready:
        return _told(found, 202, {})
    return files.send(report_files.file(found.report, path.ending), as_attachment=True)


def _told(found: Standing, status: int, headers: dict[str, str]) -> Response:
    shown = schemas.ReportAnswer(
        job_id=found.report.job_id,
        status=found.stage,
        images=found.images,
        images_done=found.report.images_done,
        error=found.report.error_message,
        built_at=found.report.built_at if found.is_ready else None,
        links=_links(found.report.job_id) if found.is_ready else None,
    )
    if not found.is_over:
        headers = headers | {"Retry-After": str(POLL_SECONDS)}
    return answer(shown, status, headers)


def _links(job_id: int) -> dict[str, str]:
    return {ending: url_for(".download", job_id=job_id, ending=ending, _external=True) for ending in report_files.TYPES}
