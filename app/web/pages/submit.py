"""Submitting a list of URLs: looked through first, then done, with the command that would have done the same."""

from __future__ import annotations

import hashlib
import json
import shlex
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from flask import Response, request, url_for

from app import processors
from app.domain import jobs, stores
from app.domain.idempotency import Idempotency
from app.domain.plans import NewJob, NewVisit
from app.domain.turns import PRIORITY_NORMAL
from app.errors import InvalidRequestError
from app.extensions import settings
from app.models import JobSource
from app.web import urllists
from app.web.auth import needs
from app.web.pages.base import blueprint
from app.web.rendering import page, see
from app.web.schemas.options import PRIORITY_MOST

LIST_MOST_BYTES = 8 * 1024 * 1024
PROBLEMS_SHOWN = 100
# Of so many images a command still fits on a page.
CURL_MOST_IMAGES = 10


@blueprint.get("/submit", endpoint="submit")
@needs("submit")
def ask_submit() -> Response:
    return _page({})


@blueprint.post("/submit", endpoint="submit_list")
@needs("submit")
def submit() -> Response:
    """Look a list through, or submit it; a second click of the same page finds the job of the first."""
    request.max_form_memory_size = 2 * LIST_MOST_BYTES
    form: dict[str, Any] = request.form.to_dict()
    form["urls"] = _with_file(form.get("urls", ""))
    priority = _priority(form.get("priority", ""))
    chosen = [name for name in request.form.getlist("processors") if name in processors.BY_NAME]
    form |= {"processors": chosen}
    found = urllists.read(
        form["urls"],
        store_id=form.get("store", "").strip(),
        visit_time=form.get("time", "").strip(),
        now=datetime.now(UTC).replace(tzinfo=None),
    )
    unknown = stores.find_unknown({visit.store_id for visit in found.visits})
    is_fine = bool(found.visits) and not found.problems and found.images <= settings.JOB_MAX_IMAGES
    if form.get("action") != "submit" or not is_fine:
        curl = _curl(
            found.visits,
            priority=None if priority == PRIORITY_NORMAL else priority,
            processors=chosen,
            keep_images="keep" in form,
        )
        return _page(form, found=found, unknown=unknown, is_fine=is_fine, curl=curl)
    new = NewJob(JobSource.URLS, found.visits, priority=priority, processors=chosen or None, keep_images="keep" in form)
    created = jobs.create(new, _name(form))
    return see(url_for(".job", job_id=created.job_id, did="submitted"))


def _with_file(text: str) -> str:
    file = request.files.get("file")
    content = file.read(LIST_MOST_BYTES + 1) if file else b""
    if len(content) + len(text.encode()) > LIST_MOST_BYTES:
        raise InvalidRequestError(f"the list is longer than {LIST_MOST_BYTES // 2**20} MB: submit it in parts")
    return "\n".join(filter(None, [text.strip(), content.decode("utf-8-sig", "replace").strip()]))


def _priority(text: str) -> int:
    if not text.strip():
        return PRIORITY_NORMAL
    if not text.strip().isdecimal() or int(text) > PRIORITY_MOST:
        raise InvalidRequestError(f"priority: not a whole number from 0 to {PRIORITY_MOST}")
    return int(text)


def _name(form: dict[str, Any]) -> Idempotency:
    asked = json.dumps([form["urls"], form.get("store"), form.get("time"), form.get("priority"), form["processors"]])
    return Idempotency(
        f"page-{form.get('token', '')[:64] or uuid.uuid4().hex}", hashlib.sha256(asked.encode()).hexdigest()
    )


def _page(form: dict[str, Any], **found: Any) -> Response:
    return page(
        "submit.html",
        section="pages.submit",
        form=form,
        token=uuid.uuid4().hex,
        has_stores=stores.has_any(),
        most_images=settings.JOB_MAX_IMAGES,
        most_priority=PRIORITY_MOST,
        most_problems=PROBLEMS_SHOWN,
        processors=[each.NAME for each in processors.REGISTERED if each is not processors.perimeter],
        **found,
    )


def _curl(visits: Sequence[NewVisit], **more: Any) -> str:
    """What a program would do; of a long list the first of it."""
    key = ' -H "Authorization: Bearer $IMAGEJOBS_KEY"' if settings.AUTH == "keys" else ""
    address = url_for("jobs.submit", _external=True)
    if sum(len(visit.urls) for visit in visits) > CURL_MOST_IMAGES:
        return f"curl {address}{key} -d @job.json"
    body = urllists.as_body(visits, **more)
    return f"curl {address}{key} -d {shlex.quote(json.dumps(body, indent=1, ensure_ascii=False))}"
