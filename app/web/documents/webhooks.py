"""Webhooks: who is told of what, and what was sent."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import AWAY, BAD_REQUEST, IDEMPOTENCY_KEY, OTHER_REQUEST, answer, error
from app.web.schemas import webhooks as schemas

NO_SUCH_WEBHOOK = error("There is no such webhook")
NO_SUCH_DELIVERY = error("There is no such delivery")
DISABLED = f"The webhook is disabled. {OTHER_REQUEST}"
LARGE_BODY = error("More bytes than a body may have")
NAMED = {"openapi_extensions": {"parameters": [IDEMPOTENCY_KEY]}}


create: dict[str, Any] = {
    "responses": {
        "201": schemas.WebhookWithSecret,
        "400": BAD_REQUEST,
        "409": error(f"There are too many webhooks already. {OTHER_REQUEST}"),
        "413": LARGE_BODY,
        "503": AWAY,
    },
    **NAMED,
}
find: dict[str, Any] = {"responses": {"200": schemas.WebhooksAnswer, "400": BAD_REQUEST, "503": AWAY}}
get: dict[str, Any] = {"responses": {"200": schemas.WebhookAnswer, "404": NO_SUCH_WEBHOOK, "503": AWAY}}
change: dict[str, Any] = {
    "responses": {
        "200": schemas.WebhookAnswer,
        "400": BAD_REQUEST,
        "404": NO_SUCH_WEBHOOK,
        "413": LARGE_BODY,
        "503": AWAY,
    }
}
remove: dict[str, Any] = {
    "responses": {
        "200": answer("It is deleted; this is what it was", schemas.WebhookAnswer),
        "404": NO_SUCH_WEBHOOK,
        "503": AWAY,
    }
}
rotate: dict[str, Any] = {
    "responses": {
        "200": schemas.WebhookWithSecret,
        "400": BAD_REQUEST,
        "404": NO_SUCH_WEBHOOK,
        "409": error(OTHER_REQUEST),
        "503": AWAY,
    },
    **NAMED,
}
test: dict[str, Any] = {
    "responses": {
        "202": schemas.TestAnswer,
        "400": BAD_REQUEST,
        "404": NO_SUCH_WEBHOOK,
        "409": error(DISABLED),
        "503": AWAY,
    },
    **NAMED,
}
find_deliveries: dict[str, Any] = {
    "responses": {"200": schemas.DeliveriesAnswer, "400": BAD_REQUEST, "404": NO_SUCH_WEBHOOK, "503": AWAY}
}
get_delivery: dict[str, Any] = {"responses": {"200": schemas.DeliveryAnswer, "404": NO_SUCH_DELIVERY, "503": AWAY}}
redeliver: dict[str, Any] = {
    "responses": {
        "202": answer("It is sent once more", schemas.DeliveryAnswer),
        "400": BAD_REQUEST,
        "404": NO_SUCH_DELIVERY,
        "409": error(DISABLED),
        "503": AWAY,
    },
    **NAMED,
}
