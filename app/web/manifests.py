"""Manifests: lists of ids and URLs that other services post, or name by a file of the manifest folder."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any, BinaryIO, TypeVar

from flask import Response, request, url_for
from flask_openapi import APIBlueprint, Tag

from app.domain import manifests
from app.domain.feeds import MOST_A_BATCH, DType, Encoding, Feed, Queue
from app.domain.idempotency import Idempotency
from app.domain.jobs import Created
from app.errors import UnprocessableError
from app.web.auth import public
from app.web.documents import manifests as documents
from app.web.requests import BYTE_ORDER_MARK, Streamed, answer, idempotency, idempotency_of, validated, with_fields
from app.web.schemas import manifests as schemas
from app.web.schemas.options import OptionsQuery

blueprint = APIBlueprint("manifests", __name__, abp_tags=[Tag(name="manifests", description="Lists of ids and URLs")])

NO_DATA = "Data is not provided"
# Proxies give up on an answer that stays silent, most after a minute; JSON may have space anywhere.
SILENCE_SECONDS = 2.0

Choice = TypeVar("Choice", DType, Encoding)


class _Posted:
    """What a client posted: the manifest, or the name of one, the fields beside it, and its name for the request."""

    def __init__(self, manifest: BinaryIO, fields: Mapping[str, Any], name: Idempotency | None) -> None:
        self.manifest = manifest
        self.fields = fields
        self.name = name

    def options(self, query: OptionsQuery) -> OptionsQuery:
        return with_fields(query, self.fields)


@blueprint.post("/api/v1/images_info/", **documents.images_info)
@validated
def images_info(query: OptionsQuery) -> Response:
    """Size, dimension and format of each image of a manifest, answered when they are done."""
    give_back = manifests.take_place()
    try:
        posted = _posted()
        with posted.manifest as manifest:
            created = manifests.create_waited_for(
                manifest, posted.name, posted.options(query).as_options(is_secret_told=False)
            )
    except BaseException:
        give_back()
        raise
    response = Response(Streamed(_by_id(created)), mimetype="application/json")
    response.headers["Location"] = url_for("jobs.status", jobid=created.job_id)
    response.call_on_close(give_back)
    return response


def _by_id(created: Created) -> Generator[str, None, None]:
    separator, spoken_at = "{", time.monotonic()
    with closing(manifests.settled(created)) as settled:
        for images in settled:
            if images:
                entries = (f"{json.dumps(image.client_ref)}: {json.dumps(manifests.entry(image))}" for image in images)
                yield separator + ",\n".join(entries)
                separator, spoken_at = ",\n", time.monotonic()
            elif time.monotonic() - spoken_at > SILENCE_SECONDS:
                yield "\n"  # it also finds out whether the client is still there
                spoken_at = time.monotonic()
    yield "}\n"


@blueprint.post("/api/v1/images_info_async/", **documents.images_info_async)
@validated
def images_info_async(query: OptionsQuery) -> Response:
    """The same for any number of rows, answered at once; each image is told on the Redis list queue:images."""
    return _accepted(_posted(), query, Feed(Queue.IMAGES))


@blueprint.post("/api/v1/batch_predict/", **documents.batch_predict)
@validated
def batch_predict(query: OptionsQuery) -> Response:
    """Tensors of the images of a manifest, batch_size of them an entry of the Redis list queue:batch."""
    posted = _posted()
    batch_size = _batch_size(posted.fields.get("batch_size"))
    dtype, encoding = _one_of(DType, posted.fields, "dtype"), _one_of(Encoding, posted.fields, "encoding")
    return _accepted(posted, query, Feed(Queue.BATCH, batch_size, dtype, encoding) if batch_size else None)


def _accepted(posted: _Posted, query: OptionsQuery, feed: Feed | None) -> Response:
    with posted.manifest as manifest:
        created = manifests.create(manifest, feed, posted.name, posted.options(query).as_options())
    shown = schemas.AcceptedAnswer(ok="Processing Images", job_id=created.job_id)
    if created.callback_secret:
        shown.callback_secret = created.callback_secret
    return answer(shown, headers={"Location": url_for("jobs.status", jobid=created.job_id)})


def _batch_size(sent: Any) -> int:
    """None and 0 mean that nothing is queued. Raises UnprocessableError."""
    if sent is None or sent == "":
        return 0
    if isinstance(sent, str) and sent.isascii() and sent.isdecimal() and len(sent) < 10:
        sent = int(sent)
    if isinstance(sent, bool) or not isinstance(sent, int) or sent < 0:
        raise UnprocessableError("batch_size: not a whole number")
    if sent > MOST_A_BATCH:
        raise UnprocessableError(f"batch_size: more than {MOST_A_BATCH}")
    return sent


def _one_of(kind: type[Choice], fields: Mapping[str, Any], name: str) -> Choice:
    """The first of these words unless another is sent. Raises UnprocessableError."""
    sent = fields.get(name)
    try:
        return kind(sent) if sent else next(iter(kind))
    except ValueError:
        raise UnprocessableError(f"{name}: must be one of {', '.join(kind)}") from None


@blueprint.get("/ping/", **documents.ping)
@validated
@public
def ping() -> Response:
    """That the service is there."""
    return answer(schemas.PingAnswer(ping="pong"))


def _posted() -> _Posted:
    """Raises UnprocessableError."""
    sent = request.get_data()
    if request.mimetype == "multipart/form-data":
        # Werkzeug's own parsing would not find a body that came in chunks, since all of it has been read.
        parser = request.make_form_data_parser()
        _, form, files = parser.parse(io.BytesIO(sent), request.mimetype, len(sent), request.mimetype_params)
        if "file" not in files:
            raise UnprocessableError(NO_DATA)
        content = files["file"].read()
        # By what the form holds: its boundary is another one each time.
        parts = (each.encode() for field in sorted(form.items()) for each in field)
        return _Posted(io.BytesIO(content), form, idempotency_of(content, *parts))
    try:
        body = json.loads(sent.removeprefix(BYTE_ORDER_MARK))
    except (ValueError, RecursionError):
        raise UnprocessableError(NO_DATA) from None
    fields = body if isinstance(body, dict) else {}
    return _Posted(manifests.open_named(fields.get("filepath")), fields, idempotency())
