"""Jobs by URL."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import AWAY, BAD_REQUEST, IDEMPOTENCY_KEY, OTHER_REQUEST, answer, error
from app.web.schemas import jobs as schemas

NO_SUCH_JOB = error("There is no such job")
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


submit: dict[str, Any] = {
    "responses": {
        "201": CREATED,
        "400": BAD_REQUEST,
        "409": error(OTHER_REQUEST),
        "413": error("More images than a job, or more bytes than a body may have"),
        "503": AWAY | {"description": "The database does not answer, or too many images wait already"},
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
        "202": answer("The job is so large that it is still being stopped", schemas.StatusAnswer),
        "400": BAD_REQUEST,
        "404": NO_SUCH_JOB,
        "409": error(f"The job has ended already. {OTHER_REQUEST}"),
        "503": AWAY,
    },
    "openapi_extensions": {"parameters": [IDEMPOTENCY_KEY]},
}
retry: dict[str, Any] = {
    "responses": {
        "200": answer("There was nothing to be tried again", schemas.RetryAnswer),
        "202": schemas.RetryAnswer,
        "400": BAD_REQUEST,
        "404": NO_SUCH_JOB,
        "409": error(f"The job is just being cancelled. {OTHER_REQUEST}"),
        "413": error("More bytes than a body may have"),
        "503": AWAY,
    },
    "openapi_extensions": {"parameters": [IDEMPOTENCY_KEY]},
}
