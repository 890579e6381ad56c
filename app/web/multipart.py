"""Multipart bodies as they come in: one file at a time, on disk once it is large, whatever else the body holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from app.web.bodies import WholeRequest

MEMORY_BYTES = 1024 * 1024
MOST_FIELD_BYTES = 64 * 1024
MOST_PARTS = 20_000


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a form, or one of its other fields, which has a ``value`` instead. The file is gone with the next."""

    name: str
    filename: str
    file: IO[bytes] | None = None
    value: str = ""


def parts(most_bytes: int) -> Iterator[Part]:
    """The parts of the current request's body. Raises BadRequest, TooLargeError, RequestEntityTooLarge."""
    kind, options = parse_options_header(request.headers.get("Content-Type"))
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise BadRequest("the body is no multipart/form-data")
    decoder = MultipartDecoder(options["boundary"].encode("latin-1", "replace"), max_parts=MOST_PARTS)
    body = cast(WholeRequest, request).pieces(most_bytes)
    head: Field | File | None = None
    with SpooledTemporaryFile(MEMORY_BYTES) as file:
        for piece in _pieces(body):
            decoder.receive_data(piece)
            for event in _events(decoder):
                if isinstance(event, Field | File):
                    head = event
                    file.seek(0)
                    file.truncate()
                elif isinstance(event, Data) and head is not None:
                    file.write(event.data)
                    if isinstance(head, Field) and file.tell() > MOST_FIELD_BYTES:
                        raise RequestEntityTooLarge
                    if not event.more_data:
                        yield _part(head, cast(IO[bytes], file))


def _pieces(body: Iterator[bytes]) -> Iterator[bytes | None]:
    yield from body
    yield None  # the end, which the decoder must hear of


def _events(decoder: MultipartDecoder) -> Iterator[Field | File | Data]:
    try:
        while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
            if isinstance(event, Field | File | Data):
                yield event
    except ValueError as error:
        raise BadRequest("the body is not proper multipart/form-data, or broke off") from error


def _part(head: Field | File, file: IO[bytes]) -> Part:
    file.seek(0)
    if isinstance(head, File):
        return Part(head.name or "", head.filename or "", file)
    return Part(head.name or "", "", None, file.read().decode("utf-8", "replace"))
