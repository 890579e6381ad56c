"""What the OpenAPI document says of each route beside its models."""

from __future__ import annotations

from typing import Any

from flask_openapi import Info, OpenAPI
from pydantic import BaseModel

from app.web import schemas

VERSION = "3.1.1"  # of OpenAPI
INFO = Info(
    title="imagejobs",
    version="1",
    description="Takes in thousands of store photos by URL, works on each, and answers what became of them. Every "
    'address works with and without a slash at its end; every error is `{"error": "..."}`.',
)
UNUSED_STATUS = "422"


class Api(OpenAPI):
    """A Flask app that describes itself, without the error answers that flask-openapi assumes of every route."""

    def __init__(self, name: str) -> None:
        super().__init__(
            name,
            info=INFO,
            doc_ui=False,
            validation_error_status=UNUSED_STATUS,
            validation_error_model=schemas.ErrorAnswer,
            static_folder=None,
        )
        self.openapi_version = VERSION

    def generate_spec_json(self) -> None:
        super().generate_spec_json()
        for methods in self.spec_json["paths"].values():
            for operation in methods.values():
                operation["responses"].pop(UNUSED_STATUS, None)


def _error(description: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
    return {"description": description, "content": content}


def _answer(description: str, model: type[BaseModel]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return {"description": description, "content": content}


BAD_REQUEST = _error("What was sent cannot be taken; the sentence says which field and why")
NO_SUCH_JOB = _error("There is no such job")
AWAY = {
    **_error("The database does not answer"),
    "headers": {"Retry-After": {"description": "Seconds to wait before the next try", "schema": {"type": "integer"}}},
}
CREATED = {
    "description": "The job is stored and will be worked on",
    "content": {"application/json": {"schema": schemas.SubmitAnswer.model_json_schema()}},
    "headers": {
        "Location": {"description": "Where its status is", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds until asking is worth while", "schema": {"type": "integer"}},
    },
}
UNKNOWN_JOB = {
    "description": "`{}`, exactly, where the job is unknown; with no `jobid` at all an error in a sentence",
    "content": {"application/json": {"schema": {"type": "object"}}},
}
OTHER_REQUEST = "The Idempotency-Key was used before with another address or body"
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same address and body gives the first answer again and does nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


submit: dict[str, Any] = {
    "responses": {
        "201": CREATED,
        "400": BAD_REQUEST,
        "409": _error(OTHER_REQUEST),
        "413": _error("More images than a job, or more bytes than a body may have"),
        "503": AWAY,
    },
    "openapi_extensions": {"parameters": [IDEMPOTENCY_KEY]},
}
status: dict[str, Any] = {"responses": {"200": schemas.StatusAnswer, "400": UNKNOWN_JOB, "503": AWAY}}
find_jobs: dict[str, Any] = {"responses": {"200": schemas.JobsAnswer, "400": BAD_REQUEST, "503": AWAY}}
get_job: dict[str, Any] = {"responses": {"200": schemas.StatusAnswer, "404": NO_SUCH_JOB, "503": AWAY}}
find_images: dict[str, Any] = {
    "responses": {"200": schemas.ImagesAnswer, "400": BAD_REQUEST, "404": NO_SUCH_JOB, "503": AWAY}
}
find_errors: dict[str, Any] = {"responses": {"200": schemas.ErrorsAnswer, "404": NO_SUCH_JOB, "503": AWAY}}
cancel: dict[str, Any] = {
    "responses": {
        "200": schemas.StatusAnswer,
        "202": _answer("The job is so large that it is still being stopped", schemas.StatusAnswer),
        "400": BAD_REQUEST,
        "404": NO_SUCH_JOB,
        "409": _error(f"The job has ended already. {OTHER_REQUEST}"),
        "503": AWAY,
    },
    "openapi_extensions": {"parameters": [IDEMPOTENCY_KEY]},
}
retry: dict[str, Any] = {
    "responses": {
        "200": _answer("There was nothing to be tried again", schemas.RetryAnswer),
        "202": schemas.RetryAnswer,
        "400": BAD_REQUEST,
        "404": NO_SUCH_JOB,
        "409": _error(f"The job is just being cancelled. {OTHER_REQUEST}"),
        "413": _error("More bytes than a body may have"),
        "503": AWAY,
    },
    "openapi_extensions": {"parameters": [IDEMPOTENCY_KEY]},
}
find_visits: dict[str, Any] = {"responses": {"200": schemas.VisitsAnswer, "400": BAD_REQUEST, "503": AWAY}}
index: dict[str, Any] = {
    "responses": {"200": schemas.IndexAnswer, "302": {"description": "A browser is led to the documentation"}}
}
health: dict[str, Any] = {"responses": {"200": schemas.HealthAnswer, "503": AWAY}}
live: dict[str, Any] = {"responses": {"200": schemas.HealthAnswer}}
