"""What every answer carries and every request leaves in the log."""

from __future__ import annotations

import re
import time
import uuid

import structlog
from flask import Flask, Response, g, request

from app.domain import access

log = structlog.get_logger()

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    # For answers that are no pages; a page names what it needs.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # What is answered is the caller's, and of this moment.
    "Cache-Control": "private, no-cache",
}
# Asked every few seconds by whatever watches the service.
QUIET_PATHS = ("/health", "/live", "/metrics")


def register(app: Flask) -> None:
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    sent = request.headers.get("X-Request-ID", "")
    g.request_id = sent if REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
    g.started = time.perf_counter()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _end(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.request_id
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    say = log.debug if request.path.rstrip("/") in QUIET_PATHS else log.info
    key_id = access.current().key_id
    say(
        "request answered",
        method=request.method,
        path=request.path[:200],
        status=response.status_code,
        milliseconds=round(1000 * (time.perf_counter() - g.started), 1),
        **({"key_id": key_id} if key_id else {}),
    )
    return response
