"""Whether the service is well, and what it offers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from flask import Response, current_app, redirect, url_for
from flask_openapi import APIBlueprint, Tag

from app.domain import deliveries, health
from app.web.auth import public
from app.web.documents import ops as documents
from app.web.errors import prefers_page
from app.web.requests import answer, validated
from app.web.schemas import ops as schemas

blueprint = APIBlueprint("ops", __name__, abp_tags=[Tag(name="service", description="The service itself")])


def release() -> str:
    try:
        return version("imagejobs")
    except PackageNotFoundError:  # run from its sources
        return "0"


@blueprint.get("/", **documents.index)
@validated
@public
def index() -> Response:
    """What this service is; a browser is led to the dashboard."""
    if prefers_page():
        return redirect(url_for("pages.overview"))  # type: ignore[return-value]
    routes = sorted({rule.rule for rule in current_app.url_map.iter_rules() if not rule.endpoint.endswith("static")})
    return answer(schemas.IndexAnswer(service="imagejobs", version=release(), routes=routes))


@blueprint.get("/health", **documents.health)
@validated
@public
def check_health() -> Response:
    """Whether the database (else 503), the broker and the storage answer.

    Without a broker jobs are accepted, and start later; without storage those whose images are at an address.
    """
    health.check_database()
    wrong: dict[str, Any] = {}
    if not health.has_broker():
        wrong["broker"] = "down"
    if not health.has_storage():
        wrong["storage"] = "down"
    if deliveries.is_any_late():
        wrong["webhooks"] = "late"
    return answer(schemas.HealthAnswer(status="degraded" if wrong else "ok", **wrong))


@blueprint.get("/live", **documents.live)
@validated
@public
def live() -> Response:
    """200 for as long as the process answers."""
    return answer(schemas.HealthAnswer(status="ok"))
