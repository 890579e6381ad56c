"""Webhooks: who is told of what, what was sent and what came of it, and sending it again."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, request, url_for

from app.domain import deliveries, messages, webhooks
from app.domain.webhooks import Change, NewWebhook
from app.errors import ConflictError, InvalidRequestError
from app.extensions import settings
from app.models import ALL_JOBS, DeliveryState, Webhook
from app.web import forms
from app.web.auth import needs
from app.web.pages.base import blueprint
from app.web.rendering import page, see
from app.web.requests import read_part, validated
from app.web.schemas import pages as schemas
from app.web.schemas.webhooks import WebhookBody

WEBHOOKS_A_PAGE = 50
DELIVERIES_A_PAGE = 50
EVENTS = {
    "job.completed": "a job whose images were all read",
    "job.failed": "a job that ended otherwise",
    "visit.settled": "each visit, as its last image is settled",
}


@blueprint.get("/webhooks", endpoint="webhooks")
@validated
def find_webhooks(query: schemas.WebhooksQuery) -> Response:
    return _list(query)


@blueprint.post("/webhooks", endpoint="create_webhook")
def create_webhook() -> Response:
    """The page that it leads to shows the secret, this once; so does a second click, which makes no second webhook."""
    sent: dict[str, Any] = {
        "url": request.form.get("url", "").strip(),
        "events": [event for event in request.form.getlist("events") if event in EVENTS],
        "description": request.form.get("description", "").strip() or None,
    }
    try:
        if not sent["events"]:
            raise InvalidRequestError("events: choose at least one")
        body = read_part(WebhookBody, json.dumps(sent).encode())
        made = webhooks.create(NewWebhook(body.url, body.events, description=body.description), forms.name())
    except (InvalidRequestError, ConflictError) as error:
        return _list(schemas.WebhooksQuery.model_validate({}), status=400, problem=str(error), form=sent)
    return _with_secret(made)


def _list(query: schemas.WebhooksQuery, *, status: int = 200, **form: Any) -> Response:
    found, following = webhooks.find(query.job, cursor=query.cursor, per_page=WEBHOOKS_A_PAGE)
    return page(
        "webhooks/list.html",
        status=status,
        section="pages.webhooks",
        query=query,
        found=found,
        next=following,
        events=EVENTS,
        token=forms.token(),
        asks_for_keys=settings.AUTH == "keys",
        **({"form": {"events": ["job.completed", "job.failed"]}} | form),
    )


def _with_secret(webhook: Webhook) -> Response:
    answer = page("webhooks/secret.html", section="pages.webhooks", webhook=webhook)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@blueprint.get("/webhooks/<int:webhook_id>", endpoint="webhook")
@validated
def get_webhook(path: schemas.WebhookPath, query: schemas.WebhookQuery) -> Response:
    webhook = webhooks.get(path.webhook_id)
    found, following = deliveries.find(webhook.id, query.state, cursor=query.cursor, per_page=DELIVERIES_A_PAGE)
    return page(
        "webhooks/webhook.html",
        fragment="webhooks/_webhook.html",
        section="pages.webhooks",
        webhook=webhook,
        is_callback=webhook.job_id != ALL_JOBS,
        found=found,
        next=following,
        query=query,
        states=DeliveryState,
        token=forms.token(),
    )


@blueprint.post("/webhooks/<int:webhook_id>/enable", endpoint="enable_webhook")
@validated
def enable(path: schemas.WebhookPath) -> Response:
    webhooks.change(path.webhook_id, Change(is_enabled=True))
    return see(url_for(".webhook", webhook_id=path.webhook_id))


@blueprint.post("/webhooks/<int:webhook_id>/disable", endpoint="disable_webhook")
@validated
def disable(path: schemas.WebhookPath) -> Response:
    webhooks.change(path.webhook_id, Change(is_enabled=False))
    return see(url_for(".webhook", webhook_id=path.webhook_id))


@blueprint.post("/webhooks/<int:webhook_id>/test", endpoint="test_webhook")
@validated
def test(path: schemas.WebhookPath) -> Response:
    delivery_id = webhooks.test(path.webhook_id, forms.name())
    return see(url_for(".delivery", delivery_id=delivery_id))


@blueprint.post("/webhooks/<int:webhook_id>/rotate", endpoint="rotate_webhook")
@validated
def rotate(path: schemas.WebhookPath) -> Response:
    return _with_secret(webhooks.rotate(path.webhook_id, forms.name()))


@blueprint.get("/webhooks/<int:webhook_id>/remove", endpoint="ask_remove_webhook")
@needs("submit")
@validated
def ask_remove(path: schemas.WebhookPath) -> Response:
    return page("webhooks/remove.html", section="pages.webhooks", webhook=webhooks.get(path.webhook_id))


@blueprint.post("/webhooks/<int:webhook_id>/remove", endpoint="remove_webhook")
@validated
def remove(path: schemas.WebhookPath) -> Response:
    webhooks.remove(path.webhook_id)
    return see(url_for(".webhooks"))


@blueprint.get("/deliveries/<int:delivery_id>", endpoint="delivery")
@validated
def get_delivery(path: schemas.DeliveryPath) -> Response:
    found = deliveries.get(path.delivery_id)
    return page(
        "webhooks/delivery.html",
        fragment="webhooks/_delivery.html",
        section="pages.webhooks",
        delivery=found.delivery,
        message_id=messages.message_id(found.delivery),
        payload=messages.payload(found.delivery, found.metadata),
        token=forms.token(),
    )


@blueprint.post("/deliveries/<int:delivery_id>/redeliver", endpoint="redeliver")
@validated
def redeliver(path: schemas.DeliveryPath) -> Response:
    deliveries.redeliver(path.delivery_id, forms.name())
    return see(url_for(".delivery", delivery_id=path.delivery_id))
