"""Bodies of requests: read whole, or refused."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

READ_BYTES = 4096
# Of this thread's processor, for a body in pieces (chunks): gunicorn parses each in Python, and 4 MB in pieces of one
# byte took 34 seconds. The largest body in pieces as clients send them takes a tenth of a second.
PIECES_CPU_SECONDS = 1.0


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

    @cached_property
    def _body_in_pieces(self) -> bytes:
        until = time.thread_time() + PIECES_CPU_SECONDS
        body = bytearray()
        try:
            while piece := self.environ["wsgi.input"].read(READ_BYTES):
                body += piece
                if len(body) > (self.max_content_length or 0):
                    raise RequestEntityTooLarge
                if time.thread_time() > until:
                    raise BadRequest("the body comes in too many pieces: send it with a Content-Length")
        except ParseException as error:
            raise BadRequest("the body is not proper HTTP: its chunks cannot be read") from error
        except OSError as error:
            raise BadRequest("the body broke off") from error
        return bytes(body)
