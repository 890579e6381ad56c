"""Results of whole jobs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.models import ImageState
from app.web import fields
from app.web.schemas.base import Request, Shown


class ResultsQuery(Request):
    state: ImageState | None = Field(None, description="Only images in this state.")
    error_code: fields.Text | None = Field(None, description="Only images that failed with this code.")


class CsvQuery(ResultsQuery):
    separator: Literal["comma", "semicolon", "tab"] = Field(
        "comma", description="What stands between cells; spreadsheets of much of Europe expect semicolons."
    )
    bom: bool = Field(True, description="Whether to begin with the mark by which Excel knows UTF-8.")


class ResultAnswer(BaseModel):
    """All that is known of an image; its order is that of the columns in CSV."""

    job_id: int
    seq: int = Field(description="Its place in the job, from 0.")
    client_ref: str | None = Field(description="The id or file name that the client gave it.")
    metadata: dict[str, Any] | None = Field(description="What else the client said of it.")
    url: str | None
    storage_key: str | None = Field(description="Where its file is kept, within the service's storage.")
    state: ImageState
    error_code: str | None
    error_message: str | None
    width: int | None
    height: int | None
    perimeter: int | None
    format: str | None
    bytes: int | None
    sha256: str | None
    seconds: float | None
    attempts: int = Field(description="In all, also before a retry.")
    next_attempt_at: Shown | None
    settled_at: Shown | None
    visit: int | None = Field(description="The place of its visit in the job, from 0.")
    store_id: str | None
    visit_time: Shown | None
    visit_time_as_sent: str | None
    area: str | None
    store_name: str | None = Field(description="By the store master.")
    store_name_as_sent: str | None
    camera_id: str | None
    barcode: str | None
    captured_at: Shown | None
    captured_at_as_sent: str | None
    results: dict[str, Any] | None = Field(
        description='By processor: `{"version": ..., "result": ...}`, or `error` in place of `result`.'
    )


class ResultsAnswer(BaseModel):
    job_id: int
    results: list[ResultAnswer]
