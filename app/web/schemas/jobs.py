"""Jobs by URL."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, FailFast, Field, StrictBool, StrictInt

from app.models import ImageState, JobSource, JobState
from app.web import fields
from app.web.schemas.base import Request, Shown
from app.web.schemas.options import CALLBACK_SECRET, PRIORITY_MOST
from app.web.schemas.webhooks import SECRET_WORDS, Secret

Status = Literal["ongoing", "completed", "failed"]


class VisitBody(Request):
    store_id: fields.StoreId = Field(examples=["S00339218"])
    urls: Annotated[list[fields.Url], FailFast()] = Field(
        validation_alias=AliasChoices("image_url", "image_urls"),
        min_length=1,
        description="The images of this visit, kept byte for byte. Also read as `image_urls`.",
        examples=[["https://host/2.jpg", "https://host/3.jpg"]],
    )
    visit_time: fields.Time = Field(examples=["2020-09-02T00:00:53Z"])


class SubmitBody(Request):
    count: StrictInt = Field(description="How many visits there are.", examples=[1])
    # The first bad one ends the reading: a body can hold millions, and each would become an object that says why.
    visits: Annotated[list[VisitBody], FailFast()] = Field(min_length=1)
    priority: StrictInt | None = Field(
        None, ge=0, le=PRIORITY_MOST, description="A larger one gets a larger share of the workers; 5 unless given."
    )
    metadata: fields.Metadata | None = Field(None, description="An object of yours, echoed back with the job.")
    processors: list[fields.Text] | None = Field(
        None,
        max_length=100,
        description="Names of processors whose results each image gets, beside its measures.",
        examples=[["Average Pixel Value", "exif"]],
    )
    keep_images: StrictBool | None = Field(
        None, description="Whether images that were fetched are kept in storage; they are not unless asked for."
    )
    callback_url: fields.Url | None = Field(None, description="Is told when the job ends: see webhooks.")
    callback_secret: Secret | None = Field(
        None, description=f"What those messages are signed with, {SECRET_WORDS}; one is made unless given."
    )


class StatusQuery(Request):
    jobid: str | None = Field(
        None,
        validation_alias=AliasChoices("jobid", "jobId", "job_id"),
        description="The job's number. Also read as `jobId` and `job_id`.",
        examples=["123"],
    )


class JobPath(Request):
    job_id: int = Field(description="The job's number.")


class JobsQuery(Request):
    state: JobState | None = Field(None, description="Only jobs in this state.")
    storeid: fields.StoreId | None = Field(
        None,
        validation_alias=AliasChoices("storeid", "store", "store_id"),
        description="Only jobs with a visit of this store.",
    )
    startdate: fields.RangeStart | None = Field(None, validation_alias=AliasChoices("startdate", "startDate"))
    enddate: fields.RangeEnd | None = Field(None, validation_alias=AliasChoices("enddate", "endDate"))
    per_page: int = Field(50, ge=1, le=1000)
    cursor: str | None = Field(None, description="`next` of the page before.")


class ImagesQuery(Request):
    state: ImageState | None = Field(None, description="Only images in this state.")
    error_code: fields.Text | None = Field(None, description="Only images that failed with this code.")
    per_page: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, description="`next` of the page before.")


class RetryBody(Request):
    error_codes: list[fields.Text] | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Only images that failed with one of these codes.",
        examples=[["http_503", "timeout"]],
    )
    store_ids: list[fields.StoreId] | None = Field(
        None, min_length=1, max_length=1000, description="Only images of these stores."
    )
    cancelled: StrictBool = Field(False, description="Whether images that were cancelled are tried again, too.")


class SubmitAnswer(BaseModel):
    job_id: int = Field(examples=[123])
    callback_secret: str | None = Field(default=None, description=CALLBACK_SECRET)


class ImageCounts(BaseModel):
    """Images of a job by state."""

    total: int
    open: int
    done: int
    failed: int
    cancelled: int


class Links(BaseModel):
    self: str
    job: str
    images: str
    errors: str
    results: str = Field(
        description="All results as JSON; also with `.jsonl`, `.csv` and `.parquet` in place of `.json`."
    )


class StoreError(BaseModel):
    store_id: str = Field(examples=["S00339218"])
    error: str = Field(examples=["2 of 5 images failed; first: http_404: the server answered 404 Not Found"])


class ImageError(BaseModel):
    seq: int = Field(description="Its place in the job, from 0.")
    url: str | None
    client_ref: str | None
    error_code: str = Field(examples=["not_an_image"])
    error_message: str | None


class JobAnswer(BaseModel):
    """A job and its counters."""

    status: Status
    job_id: int
    state: JobState = Field(description="As `status`, but a cancelled job says so.")
    images: ImageCounts
    source: JobSource = Field(description="The door it came in by.")
    visits: int
    priority: int
    processors: list[str] | None = Field(description="What was asked for beside the measures; null: nothing.")
    keep_images: bool
    metadata: dict[str, Any] | None
    created_at: Shown
    started_at: Shown | None
    finished_at: Shown | None
    cancelled_at: Shown | None = Field(description="When it was asked to stop; a retry clears it.")
    retried_at: Shown | None = Field(description="When images of it were last opened again by a retry.")
    links: Links


class StatusAnswer(JobAnswer):
    """A job, how far it is, and once it has failed, why."""

    error: list[StoreError] = Field(
        default=[], description="One entry a store that failed; only where `status` is failed."
    )
    failed_images: list[ImageError] = Field(
        default=[], description="In place of `error` where the job has no stores: the first 100 images that failed."
    )
    percent: float
    eta_seconds: float | None = Field(description="Time left at the rate so far; null while that is unknown.")


class RetryAnswer(BaseModel):
    job_id: int
    reopened: int = Field(description="Images that are tried again.")
    unknown_store: int = Field(
        description="Images that were asked for, and left as they are: their stores are still not in the store master."
    )


class JobsAnswer(BaseModel):
    results: list[JobAnswer]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class ImageAnswer(BaseModel):
    """One image of a job."""

    seq: int = Field(description="Its place in the job, from 0.")
    visit: int | None = Field(description="The place of its visit in the job, from 0.")
    url: str | None
    state: ImageState
    error_code: str | None
    error_message: str | None
    width: int | None
    height: int | None
    perimeter: int | None
    format: str | None
    bytes: int | None
    seconds: float | None
    attempts: int = Field(description="In all, also before a retry.")
    next_attempt_at: Shown | None
    settled_at: Shown | None
    # The rest is left out where it is not known.
    client_ref: str = Field(default="", description="The id or file name that the client gave it.")
    captured_at: str = Field(default="", description="When it was taken, as it was sent.")
    store_name: str = ""
    store_id: str = Field(default="", description="The store in the master that alone has this name.")
    camera_id: str = ""
    barcode: str = ""
    sha256: str = Field(default="", description="Of its file.")
    file: str = Field(default="", description="Where the image itself is, if it is stored.")
    results: dict[str, Any] = Field(
        default={}, description="By processor: its `version`, and its `result` or its `error` (`code` and `message`)."
    )


class ImagesAnswer(BaseModel):
    results: list[ImageAnswer]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class ErrorExample(BaseModel):
    seq: int = Field(description="Its place in the job, from 0.")
    url: str | None
    error_message: str | None


class ErrorGroup(BaseModel):
    error_code: str = Field(examples=["http_404"])
    images: int = Field(description="Images that failed with this code.")
    examples: list[ErrorExample] = Field(description="The first of them.")


class ErrorsAnswer(BaseModel):
    """Why images of a job failed, the most frequent code first."""

    job_id: int
    results: list[ErrorGroup]
