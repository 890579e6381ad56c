"""Multipart bodies as they come in: piece by piece, so that a file goes on to storage without lying anywhere before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from app.web.bodies import WholeRequest

MOST_FIELD_BYTES = 64 * 1024
MOST_PARTS = 20_000
Event = Field | File | Data


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a form, whose ``pieces`` can be had until the next part is, or another field, which has a ``value``."""

    name: str
    filename: str = ""
    pieces: Iterator[bytes] | None = None
    value: str = ""


def parts(most_bytes: int) -> Iterator[Part]:
    """The parts of the current request's body. Raises BadRequest, TooLargeError, RequestEntityTooLarge."""
    kind, options = parse_options_header(request.headers.get("Content-Type"))
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise BadRequest("the body is no multipart/form-data")
    decoder = MultipartDecoder(options["boundary"].encode("latin-1", "replace"), max_parts=MOST_PARTS)
    events = _events(decoder, cast(WholeRequest, request).pieces(most_bytes))
    for event in events:
        pieces = _data(events)
        if isinstance(event, File):
            yield Part(event.name or "", event.filename or "", pieces)
        elif isinstance(event, Field):
            yield Part(event.name or "", value=_text(pieces))
        for _ in pieces:
            pass  # what nobody wanted


def _events(decoder: MultipartDecoder, body: Iterator[bytes]) -> Iterator[Event]:
    try:
        for piece in body:
            yield from _decoded(decoder, piece)
        yield from _decoded(decoder, None)
    except ValueError as error:
        raise BadRequest("the body is not proper multipart/form-data, or broke off") from error


def _decoded(decoder: MultipartDecoder, piece: bytes | None) -> Iterator[Event]:
    decoder.receive_data(piece)
    while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
        if isinstance(event, Event):
            yield event


def _data(events: Iterator[Event]) -> Iterator[bytes]:
    for event in events:
        if isinstance(event, Data):
            if event.data:
                yield bytes(event.data)
            if not event.more_data:
                return


def _text(pieces: Iterator[bytes]) -> str:
    value = b""
    for piece in pieces:
        value += piece
        if len(value) > MOST_FIELD_BYTES:
            raise RequestEntityTooLarge
    return value.decode("utf-8", "replace")
