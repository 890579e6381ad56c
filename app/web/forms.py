"""What a form that changes something is checked for before it does: that one of our own pages has sent it."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import request

from app.errors import ForbiddenError

READING = ("GET", "HEAD", "OPTIONS")


def expect_own_site() -> None:
    """Raises ForbiddenError where a browser says that another site sent this, or where no browser says anything.

    Every browser of the last years names the origin of a POST, and no script of a foreign page can change that. Where
    it also says how the two sites are related (to HTTPS and to this host), that counts.
    """
    if request.method in READING:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    is_own = site == "same-origin" if site else urlsplit(origin or "").netloc == request.host
    if not is_own:
        raise ForbiddenError("this form was not sent by a page of this service")
