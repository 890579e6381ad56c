"""Forms of pages: beside what ``gates`` refuses, a page's form is a browser's, which says where it comes from."""

from __future__ import annotations

import hashlib
import json
import uuid

from flask import request

from app.domain.idempotency import Idempotency
from app.errors import ForbiddenError
from app.web.gates import CHANGING_METHODS


def expect_browser() -> None:
    """Raises ForbiddenError where nothing says which site a form was sent from; ``gates`` has refused all but ours.

    Every browser of the last years names the origin of a POST, and no script of a foreign page can change that, so the
    forms hold no token. Programs have the HTTP interface.
    """
    says = "Sec-Fetch-Site" in request.headers or "Origin" in request.headers
    if request.method in CHANGING_METHODS and not says:
        raise ForbiddenError("this form was not sent by a page of this service")


def token() -> str:
    """What a page writes into a form, so that its second click finds what the first has done."""
    return uuid.uuid4().hex


def name() -> Idempotency:
    """The name of the form that was sent, by its ``token``; with other fields it is another request."""
    sent = json.dumps([request.path, sorted(request.form.items(multi=True))])
    given = request.form.get("token", "")[:64] or token()
    return Idempotency(f"page-{given}", hashlib.sha256(sent.encode()).hexdigest())
