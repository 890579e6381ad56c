"""Reports of jobs."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.web.schemas.base import Shown
from app.web.schemas.jobs import JobPath


class ReportFilePath(JobPath):
    ending: str = Field(description="`zip`, `xlsx`, `csv` or `json`.")


class ReportAnswer(BaseModel):
    job_id: int
    status: str = Field(description="`waiting for the job`, `building the report`, `ready` or `failed`")
    images: int
    images_done: int = Field(description="Of these, looked at for what is to be drawn.")
    error: str | None = Field(description="Why it could not be built.")
    built_at: Shown | None
    links: dict[str, str] | None = Field(description="Its files by their endings, once they are there.")
