"""Webhooks: subscriptions, what was sent to them, and sending it again."""

from __future__ import annotations

from typing import Any

from flask import Response, url_for
from flask_openapi import APIBlueprint, Tag

from app.domain import deliveries, messages, webhooks
from app.domain.webhooks import Change, NewWebhook
from app.models import ALL_JOBS, Delivery, Webhook
from app.web.documents import webhooks as documents
from app.web.requests import answer, idempotency, validated
from app.web.schemas import webhooks as schemas

blueprint = APIBlueprint("webhooks", __name__, abp_tags=[Tag(name="webhooks", description="Be told when jobs end")])


@blueprint.post("/api/webhooks", **documents.create)
@validated
def create(body: schemas.WebhookBody) -> Response:
    """Have messages sent of all jobs, from now on; the answer alone shows the secret."""
    new = NewWebhook(body.url, body.events, body.secret, body.enabled, body.description)
    made = webhooks.create(new, idempotency())
    headers = {"Location": url_for("webhooks.get", webhook_id=made.id)}
    return answer(schemas.WebhookWithSecret(**_fields(made), secret=made.secret), 201, headers)


@blueprint.get("/api/webhooks", **documents.find)
@validated
def find(query: schemas.WebhooksQuery) -> Response:
    """Subscriptions, newest first; or the callback of one job."""
    found, following = webhooks.find(query.job_id, cursor=query.cursor, per_page=query.per_page)
    return answer(schemas.WebhooksAnswer(results=[_as_webhook(each) for each in found], next=following))


@blueprint.get("/api/webhooks/<int:webhook_id>", **documents.get)
@validated
def get(path: schemas.WebhookPath) -> Response:
    """One webhook, without its secret."""
    return answer(_as_webhook(webhooks.get(path.webhook_id)))


@blueprint.patch("/api/webhooks/<int:webhook_id>", **documents.change)
@validated
def change(path: schemas.WebhookPath, body: schemas.WebhookChange) -> Response:
    """Change what is given, leave the rest."""
    wanted = Change(body.url, body.events, body.secret, body.enabled, body.description)
    return answer(_as_webhook(webhooks.change(path.webhook_id, wanted)))


@blueprint.delete("/api/webhooks/<int:webhook_id>", **documents.remove)
@validated
def remove(path: schemas.WebhookPath) -> Response:
    """Delete a webhook; what was still to be sent to it is not sent."""
    return answer(_as_webhook(webhooks.remove(path.webhook_id)))


@blueprint.post("/api/webhooks/<int:webhook_id>/rotate", **documents.rotate)
@validated
def rotate(path: schemas.WebhookPath) -> Response:
    """Make a new secret; for a day, messages are signed with the old one too."""
    changed = webhooks.rotate(path.webhook_id, idempotency())
    return answer(schemas.WebhookWithSecret(**_fields(changed), secret=changed.secret))


@blueprint.post("/api/webhooks/<int:webhook_id>/test", **documents.test)
@validated
def test(path: schemas.WebhookPath) -> Response:
    """Send a message of the type `webhook.test`."""
    delivery_id = webhooks.test(path.webhook_id, idempotency())
    headers = {"Location": url_for("webhooks.get_delivery", delivery_id=delivery_id)}
    return answer(schemas.TestAnswer(delivery_id=delivery_id), 202, headers)


@blueprint.get("/api/webhooks/<int:webhook_id>/deliveries", **documents.find_deliveries)
@validated
def find_deliveries(path: schemas.WebhookPath, query: schemas.DeliveriesQuery) -> Response:
    """What was, or is to be, sent to a webhook, newest first."""
    found, following = deliveries.find(path.webhook_id, query.state, cursor=query.cursor, per_page=query.per_page)
    shown = [schemas.DeliveryAnswer(**_delivery_fields(each)) for each in found]
    return answer(schemas.DeliveriesAnswer(results=shown, next=following))


@blueprint.get("/api/deliveries/<int:delivery_id>", **documents.get_delivery)
@validated
def get_delivery(path: schemas.DeliveryPath) -> Response:
    """One message with all of its tries."""
    return answer(_as_delivery(deliveries.get(path.delivery_id)))


@blueprint.post("/api/deliveries/<int:delivery_id>/redeliver", **documents.redeliver)
@validated
def redeliver(path: schemas.DeliveryPath) -> Response:
    """Send a message once more, under its id, with new attempts."""
    return answer(_as_delivery(deliveries.redeliver(path.delivery_id, idempotency())), 202)


def _as_webhook(webhook: Webhook) -> schemas.WebhookAnswer:
    return schemas.WebhookAnswer(**_fields(webhook))


def _fields(webhook: Webhook) -> dict[str, Any]:
    return {
        "webhook_id": webhook.id,
        "url": webhook.url,
        "events": webhook.events.split(","),
        "enabled": webhook.is_enabled,
        "disabled_reason": webhook.disabled_reason,
        "description": webhook.description,
        "job_id": None if webhook.job_id == ALL_JOBS else webhook.job_id,
        "failing_since": webhook.failing_since,
        "last_error": webhook.last_error,
        "created_at": webhook.created_at,
        "updated_at": webhook.updated_at,
        "links": schemas.WebhookLinks(
            self=url_for("webhooks.get", webhook_id=webhook.id),
            deliveries=url_for("webhooks.find_deliveries", webhook_id=webhook.id),
        ),
    }


def _as_delivery(shown: deliveries.Shown) -> schemas.DeliveryAnswer:
    payload = messages.payload(shown.delivery, shown.metadata)
    return schemas.DeliveryAnswer(**_delivery_fields(shown.delivery), payload=payload)


def _delivery_fields(delivery: Delivery) -> dict[str, Any]:
    return {
        "delivery_id": delivery.id,
        "webhook_id": delivery.webhook_id,
        "message_id": messages.message_id(delivery),
        "event": delivery.event,
        "job_id": delivery.job_id or None,
        "visit": delivery.visit_seq,
        "version": delivery.version,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "next_attempt_at": delivery.due_at,
        "created_at": delivery.created_at,
        "finished_at": delivery.finished_at,
        "tries": [schemas.Try(**each) for each in delivery.tries or ()],
    }
