"""Pages: what a template is rendered with, what a browser may load for it, and the files it loads.

Bootstrap's style sheet comes out of the wheel of Bootstrap-Flask, our own files from ``app/web/static``; nothing is
asked of the outside, and no page holds a script or a style of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import flask_bootstrap
from flask import Blueprint, Flask, Response, current_app, render_template, request, url_for

from app.domain import access
from app.domain.access import Scope
from app.extensions import settings
from app.web import formats

HERE = Path(__file__).parent
BOOTSTRAP = Path(flask_bootstrap.__file__).parent / "static" / "bootstrap5" / "css"
# data: is what Bootstrap's style sheet draws its arrows and ticks from.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# live.js asks with it for the part of a page that changes.
FRAGMENT_HEADER = "X-Fragment"
ASSET_SECONDS = 7 * 86_400


class Assets(Blueprint):
    """Files whose address changes with what is in them, so that a browser may keep them."""

    def get_send_file_max_age(self, filename: str | None) -> int | None:
        return ASSET_SECONDS


assets = Assets("assets", __name__, static_folder=str(HERE / "static"), static_url_path="/dashboard/static")
bootstrap = Assets("bootstrap", __name__, static_folder=str(BOOTSTRAP), static_url_path="/dashboard/bootstrap")


def register(app: Flask) -> None:
    app.register_blueprint(assets)
    app.register_blueprint(bootstrap)
    app.jinja_env.filters.update(formats.FILTERS)
    helpers = (asset, has_route, changed, narrowed_alike, sample_curl, may)
    app.jinja_env.globals.update({helper.__name__: helper for helper in helpers})
    app.context_processor(lambda: {"caller": access.current(), "asks_for_keys": settings.AUTH == "keys"})
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


def page(template: str, *, status: int = 200, fragment: str | None = None, **values: Any) -> Response:
    """The rendered ``template``, or its ``fragment`` where the page that is open asks for what has changed."""
    is_fragment = fragment is not None and FRAGMENT_HEADER in request.headers
    text = render_template(fragment if is_fragment and fragment else template, status=status, **values)
    answer = Response(text, status, mimetype="text/html")
    answer.headers["Content-Security-Policy"] = POLICY
    # Not "no-referrer": a browser would then hide from us, too, where a form was sent from.
    answer.headers["Referrer-Policy"] = "same-origin"
    # What a page shows is of this moment, and of whoever asked.
    answer.headers["Cache-Control"] = "no-store" if is_fragment else "private, no-cache"
    answer.headers["Vary"] = FRAGMENT_HEADER
    return answer


def see(address: str) -> Response:
    """Lead a browser on after a form, so that reloading does not send the form again."""
    return Response(status=303, headers={"Location": address})


def asset(name: str, of: str = "assets") -> str:
    """The address of one of our files, or of Bootstrap's."""
    folder = current_app.blueprints[of].static_folder
    return url_for(f"{of}.static", filename=name, v=_digest(f"{folder}/{name}"))


@cache
def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def has_route(endpoint: str) -> bool:
    return endpoint in current_app.view_functions


def may(scope: str) -> bool:
    """Whether the caller may what a button does; the routes themselves check it anyway."""
    return access.current().may(Scope(scope))


def changed(**values: Any) -> str:
    """This page's address with some of its query changed; None takes a part away, and so does a new filter the page."""
    query = {name: value for name, value in request.args.items() if name != "cursor"}
    path = url_for(request.endpoint or "", **(request.view_args or {}))
    return _with_query(path, query | values)


def narrowed_alike(endpoint: str) -> str:
    """Another address with the query of this page."""
    return _with_query(url_for(endpoint), request.args)


def _with_query(path: str, query: Mapping[str, Any]) -> str:
    """Not by url_for: names in a query are anybody's, and some mean something to it."""
    wanted = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(wanted)}" if wanted else path


def sample_curl(store_id: str = "S00339218") -> str:
    """The command that submits a first job to this very service; empty where it does not serve that door."""
    if not has_route("jobs.submit"):
        return ""
    return (
        f'curl {url_for("jobs.submit", _external=True)} -d \'{{"count": 1, "visits": [\n'
        f'  {{"store_id": {json.dumps(store_id)}, "visit_time": "2020-09-02T00:00:53Z",\n'
        '   "image_url": ["https://www.python.org/static/img/python-logo.png"]}]}\''
    )
