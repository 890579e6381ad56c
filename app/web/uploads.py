"""The upload page: people drop photos or a zip, hand them in, and find the results under an address of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from flask import Response, request, session, url_for
from flask_openapi import APIBlueprint, Tag
from werkzeug.exceptions import BadRequest

from app.domain import notices, report_files, submissions, uploads
from app.domain.submissions import Overview
from app.domain.uploads import Incoming, Kept
from app.errors import ArchiveError, DecodeError, InvalidRequestError, NotFoundError, ReportFailedError, TooLargeError
from app.extensions import settings
from app.models import ReportState, UploadState
from app.reports import drawing
from app.web import files, multipart
from app.web.auth import needs
from app.web.documents import uploads as documents
from app.web.errors import prefers_page
from app.web.rendering import FRAGMENT_HEADER, page
from app.web.requests import answer, idempotency_of, validated, with_fields
from app.web.schemas import uploads as schemas
from app.web.schemas.options import OptionsQuery

blueprint = APIBlueprint("uploads", __name__, abp_tags=[Tag(name="uploads", description="Photos handed in by people")])

# Several tabs may be open: each page names its own among these.
SESSION_KEY = "submissions"
MOST_SUBMISSIONS = 10
FIELD_PREFIX = "file"
POLL_SECONDS = 2


@blueprint.get("/upload", **documents.show)
@validated
@needs("submit")
def show() -> Response:
    """A page to drop photos on; it begins a new submission."""
    submission = uploads.new_id()
    session[SESSION_KEY] = [*_submissions(), submission][-MOST_SUBMISSIONS:]
    return _form(submission)


@blueprint.post("/upload", **documents.upload)
@validated
@needs("submit")
def upload() -> Response:
    """Add images, or zips of images, to the submission."""
    told: list[schemas.UploadedFile] = []
    said: list[bytes] = []  # what an Idempotency-Key is about, however the form is written this time
    incoming: Incoming | None = None
    with ExitStack() as stack:
        submission = None
        for part in multipart.parts(settings.UPLOAD_MAX_BYTES):
            if part.pieces is None:
                submission = _known(part.value) if part.name == "submission" else submission
            elif part.name.startswith(FIELD_PREFIX) and part.filename:
                incoming = incoming or stack.enter_context(Incoming(submission or _current()))
                told.append(_add(incoming, part, said))
        if incoming is None:
            raise BadRequest("there is no file in it: send one in a field whose name begins with file")
        if not any(file.error is None for file in told):
            return _refused(submission or _current(), told)
        kept = incoming.keep([file.model_dump() for file in told], idempotency_of(*said))
    return _taken(kept)


def _add(incoming: Incoming, part: multipart.Part, said: list[bytes]) -> schemas.UploadedFile:
    assert part.pieces is not None
    digest = hashlib.sha256()
    pieces = _digested(part.pieces, digest)
    try:
        size = incoming.add(part.filename, pieces)
        file = schemas.UploadedFile(name=part.filename, status="stored", bytes=size)
    except DecodeError as error:
        file = schemas.UploadedFile(name=part.filename, status="refused", error=error.message)
    except TooLargeError as error:
        file = schemas.UploadedFile(name=part.filename, status="refused", error=str(error))
    for _ in pieces:
        pass  # what was not read of one that is refused is sent all the same
    said += [part.filename.encode(), digest.digest()]
    return file


def _digested(pieces: Iterator[bytes], digest: Any) -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def _refused(submission: str, told: list[schemas.UploadedFile]) -> Response:
    if prefers_page():
        return _form(submission, files=told)
    return answer(schemas.UploadRefused(error=f"{told[0].name}: {told[0].error}", files=told), 400)


def _taken(kept: Kept) -> Response:
    if not kept.is_new:  # that of the first request, which this browser or program may not have been told of
        session[SESSION_KEY] = [*(each for each in _submissions() if each != kept.submission), kept.submission]
    told = [schemas.UploadedFile(**file) for file in kept.told]
    if prefers_page():
        return _form(kept.submission, files=told)
    stored = sum(file.error is None for file in told)
    return answer(schemas.UploadAnswer(submission=kept.submission, files=told, stored=stored))


@blueprint.post("/process_redis", **documents.hand_in)
@validated
@needs("submit")
def hand_in(query: OptionsQuery) -> Response:
    """Queue the submission."""
    form = request.form
    submission = _known(form.get("submission", "")) or _current_or_none()
    said = (each.encode() for field in sorted(form.items()) for each in field)
    name = idempotency_of((submission or "").encode(), *said)
    try:
        options = with_fields(query, form).as_options(is_secret_told=False)
        uploads.hand_in(submission, form.get("email", ""), name, options)
    except InvalidRequestError as error:
        if not prefers_page():
            raise
        return _form(submission or _current(), status=400, problem=str(error))
    assert submission is not None
    results = url_for(".results", id=submission, _external=True)
    if prefers_page():
        return page("uploads/queued.html", section="uploads.show", results=results, has_mail=_has_mail(submission))
    return answer(schemas.HandedIn(submission=submission, results=results))


def _has_mail(submission: str) -> bool:
    return bool(submissions.get(submission).upload.email) and notices.is_possible()


@blueprint.get("/results/<id>", **documents.results)
@validated
def results(path: schemas.ResultPath, query: schemas.ResultQuery) -> Response:
    """The zip once it is ready, before that how far it is; to a browser the page."""
    found = submissions.get(path.id)
    if prefers_page() or FRAGMENT_HEADER in request.headers:
        return _results_page(found, query.after)
    return _file(found, "zip")


@blueprint.get("/results/<id>.<ending>", **documents.download)
@validated
def download(path: schemas.ResultFilePath) -> Response:
    """One of the files of the results: zip, xlsx, csv, json."""
    if path.ending not in report_files.TYPES:
        raise NotFoundError("no such file")
    return _file(submissions.get(path.id), path.ending)


def _file(found: Overview, ending: str) -> Response:
    if found.upload.state is UploadState.REFUSED:
        raise ArchiveError(str(found.upload.error_message))
    report = found.report
    if report is not None and report.state is ReportState.FAILED:
        raise ReportFailedError(str(report.error_message))
    if report is None or report.state is not ReportState.DONE:
        return answer(_progress(found), 202, {"Retry-After": str(POLL_SECONDS)})
    return files.send(report_files.file(report, ending), as_attachment=True)


def _progress(found: Overview) -> schemas.ProgressAnswer:
    job, left = found.job, found.remaining
    return schemas.ProgressAnswer(
        status=found.stage,
        place=found.place,
        job_id=found.upload.job_id,
        images=job.images_total if job else None,
        images_done=job.images_done if job else 0,
        images_failed=job.images_failed if job else 0,
        percent=found.percent,
        remaining=schemas.Remaining(least_seconds=left[0], most_seconds=left[1]) if left else None,
    )


def _results_page(found: Overview, after: int) -> Response:
    gallery = submissions.find_photos(found, after=after) if found.is_ready else None
    return page(
        "uploads/results.html",
        fragment="uploads/_results.html",
        section="uploads.show",
        found=found,
        gallery=gallery,
        after=after,
        colour=drawing.colour_number,
        has_mail=bool(found.upload.email) and notices.is_possible(),
    )


def _form(submission: str, *, status: int = 200, **values: Any) -> Response:
    return page(
        "uploads/form.html",
        status=status,
        section="uploads.show",
        submission=submission,
        collected=uploads.collected(submission),
        needs_email=settings.UPLOAD_EMAIL_REQUIRED,
        sends_mail=notices.is_possible(),
        most_bytes=settings.UPLOAD_MAX_BYTES,
        most_image_bytes=settings.FETCH_MAX_BYTES,
        keep_days=settings.RETENTION_DAYS,
        email=request.form.get("email", "") if request.mimetype != "multipart/form-data" else "",
        **values,
    )


def _submissions() -> list[str]:
    known = session.get(SESSION_KEY, [])
    return known if isinstance(known, list) else []


def _known(submission: str) -> str | None:
    """The submission, where this browser has begun it."""
    return submission if submission in _submissions() else None


def _current_or_none() -> str | None:
    known = _submissions()
    return known[-1] if known else None


def _current() -> str:
    """The newest submission of this browser; a program that never asked for the page begins one here."""
    known = _current_or_none()
    if known is None:
        known = uploads.new_id()
        session[SESSION_KEY] = [known]
    return known
