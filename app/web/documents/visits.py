"""Visits of stores."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import AWAY, BAD_REQUEST
from app.web.schemas import visits as schemas

find_visits: dict[str, Any] = {"responses": {"200": schemas.VisitsAnswer, "400": BAD_REQUEST, "503": AWAY}}
