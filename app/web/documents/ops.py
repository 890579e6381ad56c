"""The service itself."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import AWAY
from app.web.schemas import ops as schemas

index: dict[str, Any] = {
    "responses": {"200": schemas.IndexAnswer, "302": {"description": "A browser is led to the dashboard"}}
}
health: dict[str, Any] = {"responses": {"200": schemas.HealthAnswer, "503": AWAY}}
live: dict[str, Any] = {"responses": {"200": schemas.HealthAnswer}}
