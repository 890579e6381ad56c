"""The upload page and the results of what was handed in there."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.web.schemas.base import Request


class UploadedFile(BaseModel):
    name: str
    status: str = Field(description="`stored` or `refused`")
    bytes: int | None = None
    error: str | None = None


class UploadAnswer(BaseModel):
    submission: str = Field(description="What the files belong to; POST /process_redis hands it in.")
    files: list[UploadedFile]
    stored: int = Field(description="Of these files.")


class UploadRefused(BaseModel):
    error: str
    files: list[UploadedFile]


class HandedIn(BaseModel):
    submission: str
    results: str = Field(description="Where the results will stand.")


class Remaining(BaseModel):
    least_seconds: float
    most_seconds: float


class ProgressAnswer(BaseModel):
    status: str = Field(description="`queued`, `opening`, `processing` or `building the report`")
    place: int | None = Field(description="In the queue, from 1, until it is begun.")
    job_id: int | None
    images: int | None = Field(description="Known once its archives are opened.")
    images_done: int
    images_failed: int
    percent: float
    remaining: Remaining | None = Field(description="By the rate so far; null while there is none to tell from.")


class ResultPath(Request):
    id: str = Field(description="The submission's id.", examples=["3f1f9f5e5f0b4a398f4e9f6f4a1f2b3c"])


class ResultFilePath(ResultPath):
    ending: str = Field(description="`zip`, `xlsx`, `csv` or `json`.")


class ResultQuery(Request):
    after: int = Field(default=-1, ge=-1, description="Show the images behind this one.")
