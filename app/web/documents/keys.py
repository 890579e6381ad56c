"""API keys."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import AWAY, BAD_REQUEST, IDEMPOTENCY_KEY, OTHER_REQUEST, error
from app.web.schemas import keys as schemas

NO_SUCH_KEY = error("There is no such key")

create: dict[str, Any] = {
    "responses": {"201": schemas.NewKeyAnswer, "400": BAD_REQUEST, "409": error(OTHER_REQUEST), "503": AWAY},
    "openapi_extensions": {"parameters": [IDEMPOTENCY_KEY]},
}
find: dict[str, Any] = {"responses": {"200": schemas.KeysAnswer, "400": BAD_REQUEST, "503": AWAY}}
get: dict[str, Any] = {"responses": {"200": schemas.KeyAnswer, "404": NO_SUCH_KEY, "503": AWAY}}
revoke: dict[str, Any] = {"responses": {"200": schemas.KeyAnswer, "404": NO_SUCH_KEY, "503": AWAY}}
