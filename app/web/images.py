"""Single images: upload one and have every processor's result, the history, and the images themselves."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from flask import Response, url_for
from flask_openapi import APIBlueprint, Tag
from werkzeug.exceptions import BadRequest

from app.domain import singles
from app.domain.singles import PREFIX, NewSingle, Single
from app.errors import DecodeError, InvalidRequestError, NotFoundError, TooLargeError
from app.extensions import settings
from app.models import ImageState
from app.web import multipart
from app.web.documents import images as documents
from app.web.files import send
from app.web.requests import answer, idempotency_of, validated
from app.web.schemas import images as schemas

blueprint = APIBlueprint("images", __name__, abp_tags=[Tag(name="images", description="Single images")])

POLL_SECONDS = 1
# What this service calls an image: what its file is called in storage, and the client's name for it.
NAME = re.compile(r"([0-9a-f]{32})_([A-Za-z0-9_.()-]{1,100})", re.ASCII)
ODD = re.compile(r"[^A-Za-z0-9_.()-]+", re.ASCII)
MOST_NAME_CHARACTERS = 100
# What a form has beside the file.
FORM_BYTES = 64 * 1024


@blueprint.post("/images", **documents.create)
@validated
def create(query: schemas.ImageOptions) -> Response:
    """Upload an image; the answer has the results of all processors."""
    body, name = _sent()
    new = NewSingle(body, name, query.as_options(), is_waited_for=not query.is_async)
    return _as_answer(singles.create(new, idempotency_of(name.encode(), body)))


def _sent() -> tuple[bytes, str]:
    """The file in the form, and its name. Raises InvalidRequestError, TooLargeError."""
    try:
        for part in multipart.parts(settings.FETCH_MAX_BYTES + FORM_BYTES):
            if part.name == "image" and part.pieces is not None:
                return b"".join(part.pieces), _storable_name(part.filename)
    except BadRequest as error:
        raise InvalidRequestError(str(error.description)) from error
    raise InvalidRequestError("image: there is no file of that name in the form")


@blueprint.get("/images", **documents.find)
@validated
def find(query: schemas.HistoryQuery) -> Response:
    """Images that were uploaded here, newest first."""
    found = singles.find(page=query.page, count=query.count)
    return answer(schemas.ImageRecords([_as_record(single) for single in found]))


@blueprint.get("/images/results/<filename>", **documents.results)
@validated
def results(path: schemas.NamePath) -> Response:
    """The results of one image: 200 once they are there, before that 202."""
    return _as_answer(singles.get(*_parts(path.filename, "no such image")))


@blueprint.get("/images/view/<filename>", **documents.view)
@validated
def view(path: schemas.NamePath) -> Response:
    """The image itself."""
    return send(singles.get_file(*_parts(path.filename, "no such file")))


def _as_answer(single: Single) -> Response:
    more = {"callback_secret": single.callback_secret} if single.callback_secret else {}
    if single.state is not ImageState.OPEN:
        return answer(schemas.ImageDone(image=_name(single), image_url=_view(single), result=_result(single), **more))
    address = url_for("images.results", filename=_name(single), _external=True)
    shown = schemas.ImageAccepted(
        image=_name(single), image_url=_view(single), results_url=address, job_id=single.job_id, **more
    )
    return answer(shown, 202, {"Location": address, "Retry-After": str(POLL_SECONDS)})


def _as_record(single: Single) -> schemas.ImageRecord:
    return schemas.ImageRecord(
        image_name=_name(single),
        image_url=_view(single),
        results=_result(single),
        uploaded_at=single.uploaded_at,
    )


def _result(single: Single) -> dict[str, Any]:
    """What the processors found by their names, and beside it what kept those that failed."""
    found = {name: entry["result"] for name, entry in single.results.items() if "result" in entry}
    errors = {name: entry["error"]["message"] for name, entry in single.results.items() if "error" in entry}
    if single.error and not errors:
        errors["image"] = single.error
    return found | {"errors": errors}


def _name(single: Single) -> str:
    return f"{PurePosixPath(single.key).name}_{single.name}"


def _view(single: Single) -> str:
    return url_for("images.view", filename=_name(single), _external=True)


def _parts(filename: str, refusal: str) -> tuple[str, str]:
    """Key and client's name of an image by the name that we gave it. Raises NotFoundError where it is none of ours."""
    found = NAME.fullmatch(filename)
    if found is None:
        raise NotFoundError(refusal)
    return f"{PREFIX}/{found[1][:2]}/{found[1]}", found[2]


def _storable_name(sent: str) -> str:
    """The client's name for the file, without folders and with plain characters only; never a path."""
    name = ODD.sub("_", sent.replace("\\", "/").rpartition("/")[2])
    return name[-MOST_NAME_CHARACTERS:].strip(".") or "image"


@blueprint.errorhandler(InvalidRequestError)
@blueprint.errorhandler(DecodeError)
def _refused(error: InvalidRequestError | DecodeError) -> Response:
    """Clients of this door look for ``details``."""
    is_large = isinstance(error, TooLargeError)
    details = f"image: {error.message}" if isinstance(error, DecodeError) else str(error)
    shown = schemas.DetailedError(error="this cannot be taken", details=details)
    return answer(shown, 413 if is_large else 400)
