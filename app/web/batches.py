"""Batches of photos from cameras in stores: upload, list, and the photos themselves."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from flask import Response, stream_with_context
from flask_openapi import APIBlueprint, Tag

from app import times
from app.domain import batches, files
from app.domain.batches import Batch, BatchFilter, Photo
from app.errors import InvalidRequestError
from app.extensions import settings
from app.models import Image
from app.web import jsonlists
from app.web.documents import batches as documents
from app.web.documents import files as file_documents
from app.web.files import file_name, send, wanted_key
from app.web.requests import StreamedBody, answer, read_part, validated
from app.web.schemas import batches as schemas
from app.web.schemas.files import PhotoPath
from app.web.schemas.options import OptionsQuery

blueprint = APIBlueprint("batches", __name__, abp_tags=[Tag(name="batches", description="Photos from cameras")])

# Beside its base64 an item has a few texts.
METADATA_BYTES = 64 * 1024
SPACES = "\r\n\t "


@blueprint.post("/upload_image_batch", **documents.upload)
@validated
def upload(query: OptionsQuery) -> Response:
    """Store a list of photos with what their cameras know of them; they are worked on afterwards."""
    body = StreamedBody(settings.UPLOAD_MAX_BYTES)
    created = batches.create(_photos(body), body.idempotency, query.as_options())
    shown = schemas.BatchCreated(success=True, batch_id=_batch_id(created.job_id), job_id=created.job_id)
    if created.callback_secret:
        shown.callback_secret = created.callback_secret
    return answer(shown)


def _photos(body: Iterable[bytes]) -> Iterator[Photo]:
    most_bytes = 4 * (settings.FETCH_MAX_BYTES + 2) // 3 + METADATA_BYTES
    for seq, text in enumerate(jsonlists.read(body, most_bytes=most_bytes)):
        item = read_part(schemas.PhotoBody, text, seq)
        yield Photo(
            body=_decoded(item.file, seq),
            captured_at=_time(item.timestamp),
            captured_as_sent=item.timestamp,
            store_name=item.store_name,
            camera_id=item.camera_id,
            barcode=item.barcode,
        )


def _decoded(text: str, seq: int) -> bytes:
    """Line breaks are let through: some encoders make lines of 76 characters."""
    try:
        if any(space in text for space in SPACES):
            text = text.translate(dict.fromkeys(map(ord, SPACES)))
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(f"[{seq}].file: not base64") from error


def _time(text: str) -> Any:
    """None where it is in no format that is read: it is kept and shown all the same."""
    try:
        return times.parse(text)
    except times.UnreadableTimeError:
        return None


def _batch_id(job_id: int) -> str:
    """The job's number in the form of a MongoDB id, which is what clients of this door read it as."""
    return f"{job_id:024x}"


@blueprint.get("/image_batches", **documents.find)
@validated
def find(query: schemas.BatchesQuery) -> Response:
    """Batches, newest first, with what is known of their photos, or of those that are wanted."""
    wanted = BatchFilter(query.store_name, query.camera_id, query.barcode, query.start, query.end)
    found = batches.find(wanted, page=query.page, per_page=query.per_page)
    pieces = _as_list(found)
    # In here, where a database that is away can still be answered as such.
    first = next(pieces)
    return Response(stream_with_context(chain([first], pieces)), mimetype="application/json")


def _as_list(found: Iterable[Batch]) -> Iterator[str]:
    separator = "["
    for batch in found:
        yield separator + _as_answer(batch).model_dump_json(by_alias=True)
        separator = ",\n"
    yield "[]" if separator == "[" else "]"


def _as_answer(batch: Batch) -> schemas.BatchAnswer:
    return schemas.BatchAnswer(
        id=schemas.ObjectId(oid=_batch_id(batch.job_id)), images=[_as_photo(image) for image in batch.images]
    )


def _as_photo(image: Image) -> schemas.PhotoAnswer:
    return schemas.PhotoAnswer(
        file_path=f"{files.UPLOADS}/{file_name(image.storage_key or '')}",
        timestamp=image.captured_as_sent,
        store_name=image.store_name,
        camera_id=image.camera_id,
        barcode=image.barcode,
    )


@blueprint.get("/uploads/<name>", **file_documents.get)
@validated
def photo(path: PhotoPath) -> Response:
    """One photo, as it was sent."""
    return send(files.get(wanted_key(files.UPLOADS, path.name)))
