"""Reports of jobs."""

from __future__ import annotations

from typing import Any

from app.web.documents.base import AWAY, answer, error
from app.web.documents.uploads import ZIP
from app.web.schemas import reports as schemas

NONE = error("There is no such job, or no report of it was asked for")
NOT_YET = answer("It is not there yet", schemas.ReportAnswer)

ask: dict[str, Any] = {
    "responses": {
        "200": answer("It is ready", schemas.ReportAnswer),
        "202": NOT_YET,
        "404": error("There is no such job"),
        "409": error("The job did not ask for the detector"),
        "503": AWAY,
    }
}
get: dict[str, Any] = {"responses": {"200": schemas.ReportAnswer, "404": NONE, "503": AWAY}}
download: dict[str, Any] = {
    "responses": {
        "200": {"description": "The file", "content": ZIP},
        "202": NOT_YET,
        "302": {"description": "A link to the bucket that holds for a while, where the service is set up so"},
        "404": NONE,
        "500": error("The report could not be built"),
        "503": AWAY,
    }
}
