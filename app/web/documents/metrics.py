"""The metrics."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import error

metrics: dict[str, Any] = {
    "responses": {
        "200": {
            "description": "In the text format of Prometheus",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        "401": error("Neither METRICS_TOKEN nor the key of an admin was sent"),
    },
}
