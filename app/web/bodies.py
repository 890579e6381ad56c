"""Bodies of requests: read whole, or refused; those that bring images piece by piece."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from functools import cached_property
from typing import IO, Any

from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from app.errors import TooLargeError

READ_BYTES = 4096
PIECE_BYTES = 64 * 1024
# Of this thread's processor, for a body in pieces (chunks): gunicorn parses each in Python, and 4 MB in pieces of one
# byte took 34 seconds. The largest body in pieces as clients send them takes a tenth of a second.
PIECES_CPU_SECONDS = 1.0
# ... of which a larger one may have as many.
BYTES_A_CPU_SECOND = 64 * 1024 * 1024


TOO_MANY_PIECES = "the body comes in too many pieces: send it with a Content-Length"


class WholeRequest(Request):
    """Its body is all that was sent.

    Werkzeug cuts a body without an announced length at the limit and says nothing: what is left might pass for another
    body. And where its pieces cannot be read, the server's error would be answered as one of ours.
    """

    def get_data(self, *args: Any, **kwargs: Any) -> Any:
        """As Werkzeug's; raises BadRequest and RequestEntityTooLarge."""
        if self.content_length is None and self.environ.get("wsgi.input_terminated"):
            return self._body_in_pieces
        return super().get_data(*args, **kwargs)

    def _get_stream_for_parsing(self) -> IO[bytes]:
        """What forms are read from."""
        if self.content_length is None and self.environ.get("wsgi.input_terminated"):
            return io.BytesIO(self._body_in_pieces)
        return super()._get_stream_for_parsing()

    def pieces(self, most_bytes: int) -> Iterator[bytes]:
        """The body as it comes in, of which no more than a piece is held. Nothing else may read it before or after.

        Raises TooLargeError, before the first piece where the length is announced, and BadRequest where it breaks off.
        """
        length = self.content_length
        is_in_chunks = length is None and bool(self.environ.get("wsgi.input_terminated"))
        if (length or 0) > most_bytes:
            raise _too_large(most_bytes)
        return self._pieces_in_chunks(most_bytes) if is_in_chunks else self._pieces_of(length or 0)

    def _pieces_of(self, length: int) -> Iterator[bytes]:
        left = length
        while left:
            piece = self._read(min(PIECE_BYTES, left))
            if not piece:
                raise BadRequest("the body broke off")
            left -= len(piece)
            yield piece

    def _pieces_in_chunks(self, most_bytes: int) -> Iterator[bytes]:
        size, cpu_seconds, started = 0, 0.0, time.thread_time()
        while piece := self._read(READ_BYTES):
            size += len(piece)
            cpu_seconds += time.thread_time() - started
            if size > most_bytes:
                raise _too_large(most_bytes)
            if cpu_seconds > PIECES_CPU_SECONDS * max(1, size / BYTES_A_CPU_SECOND):
                raise BadRequest(TOO_MANY_PIECES)
            yield piece
            started = time.thread_time()

    def _read(self, size: int) -> bytes:
        try:
            piece: bytes = self.environ["wsgi.input"].read(size)
        except ParseException as error:
            raise BadRequest("the body is not proper HTTP: its chunks cannot be read") from error
        except OSError as error:
            raise BadRequest("the body broke off") from error
        return piece

    @cached_property
    def _body_in_pieces(self) -> bytes:
        until = time.thread_time() + PIECES_CPU_SECONDS
        body = bytearray()
        while piece := self._read(READ_BYTES):
            body += piece
            if len(body) > (self.max_content_length or 0):
                raise RequestEntityTooLarge
            if time.thread_time() > until:
                raise BadRequest(TOO_MANY_PIECES)
        return bytes(body)


def _too_large(most_bytes: int) -> TooLargeError:
    return TooLargeError(f"the body is larger than the {most_bytes} bytes that are taken here")
