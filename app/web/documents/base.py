"""The document as a whole, and what several routes say."""

from __future__ import annotations

import re
from typing import Any

from flask_openapi import Info, OpenAPI
from pydantic import BaseModel

from app.web import auth, doors
from app.web.schemas.base import ErrorAnswer

VERSION = "3.1.1"  # of OpenAPI
INFO = Info(
    title="imagejobs",
    version="1",
    description="Takes in thousands of store photos by URL, works on each, and answers what became of them. Every "
    'address works with and without a slash at its end; every error is `{"error": "..."}`.',
)
# Which flask-openapi gives to every route; none of ours answers with it.
UNUSED_STATUS = "418"
KEY = "key"
SECURITY_SCHEME = {"type": "http", "scheme": "bearer", "description": "An API key; with AUTH=open none is needed."}
CONVERTER = re.compile(r"<(?:\w+:)?")


def error(description: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
    return {"description": description, "content": content}


WITHOUT_ACCESS = {
    "401": error("No key was sent, or one that is not valid"),
    "403": error("The key lacks the scope, or the request is refused whoever sends it"),
    "429": error("The key has asked too often; Retry-After says when it may again"),
}


class Api(OpenAPI):
    """A Flask app that describes itself, without the error answers that flask-openapi assumes of every route.

    Routes of doors that are ``closed`` are neither served nor described.
    """

    def __init__(self, name: str, *, closed: tuple[str, ...] = ()) -> None:
        self._closed = closed
        super().__init__(
            name,
            info=INFO,
            doc_ui=False,
            validation_error_status=UNUSED_STATUS,
            validation_error_model=ErrorAnswer,
            static_folder=None,
        )
        self.openapi_version = VERSION

    def add_url_rule(self, rule: str, endpoint: str | None = None, *args: Any, **options: Any) -> None:
        if not doors.is_closed(endpoint or "", self._closed):
            super().add_url_rule(rule, endpoint, *args, **options)

    def generate_spec_json(self) -> None:
        super().generate_spec_json()
        self.spec_json["components"]["securitySchemes"] = {KEY: SECURITY_SCHEME}
        endpoints = {
            (CONVERTER.sub("{", rule.rule).replace(">", "}"), method.lower()): rule.endpoint
            for rule in self.url_map.iter_rules()
            for method in rule.methods or ()
        }
        described = {
            path: {method: operation for method, operation in methods.items() if (path, method) in endpoints}
            for path, methods in self.spec_json["paths"].items()
        }
        self.spec_json["paths"] = {path: methods for path, methods in described.items() if methods}
        for path, methods in self.spec_json["paths"].items():
            for method, operation in methods.items():
                operation["responses"].pop(UNUSED_STATUS, None)
                scope = auth.needed(endpoints[path, method], method.upper())
                if scope:
                    # Beside what a route says itself: who may call it, of which it knows nothing.
                    operation["security"] = [{KEY: []}]
                    operation["responses"] = WITHOUT_ACCESS | operation["responses"]
                    operation["description"] = f"{operation.get('description', '')}\n\nNeeds `{scope}`.".strip()


def answer(description: str, model: type[BaseModel]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return {"description": description, "content": content}


BAD_REQUEST = error("What was sent cannot be taken; the sentence says which field and why")
AWAY = {
    **error("The database does not answer"),
    "headers": {"Retry-After": {"description": "Seconds to wait before the next try", "schema": {"type": "integer"}}},
}
OTHER_REQUEST = "The Idempotency-Key was used before with another address or body"
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same address and body gives the first answer again and does nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
