"""How often somebody may ask: by key, else by address; told in headers, and refused with 429 past it."""

from __future__ import annotations

import math

from flask import Flask, Response, g, request

from app.domain import access, rates
from app.domain.rates import Rate
from app.errors import TooManyRequestsError
from app.extensions import settings

# Whatever watches the service asks these, and pages load files by the dozen.
UNCOUNTED_ENDPOINTS = ("ops.check_health", "ops.live")
UNCOUNTED_NAME = "static"


def register(app: Flask) -> None:
    """After it is known who is asking, and before they are let in, so that tries with wrong keys count too."""
    app.before_request(_count)
    app.after_request(_tell)


def _count() -> None:
    """Raises TooManyRequestsError past what the caller may."""
    caller = access.current()
    rate = settings.rate_of_a_key if caller.key_id else settings.rate_without_key
    if rate is None or settings.AUTH == "open" or not _is_counted(request.endpoint or ""):
        return
    name = f"key:{caller.key_id}" if caller.key_id else f"address:{request.remote_addr}"
    most, seconds = rate
    used, left = rates.count(name, Rate(most, seconds))
    g.rate = {"Limit": most, "Remaining": max(0, most - used), "Reset": math.ceil(left)}
    if used > most:
        raise TooManyRequestsError(f"more than {most} requests in {seconds} s", math.ceil(left))


def _is_counted(endpoint: str) -> bool:
    return endpoint not in UNCOUNTED_ENDPOINTS and endpoint.rpartition(".")[2] != UNCOUNTED_NAME


def _tell(response: Response) -> Response:
    for name, value in g.get("rate", {}).items():
        response.headers[f"RateLimit-{name}"] = str(value)
    return response
