"""Single images."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, RootModel

from app.web.schemas.base import Request, Shown
from app.web.schemas.options import CALLBACK_SECRET, Names, OptionsQuery

RESULT = {"Average Pixel Value": 20.0, "errors": {}}
NAME = "8080a3f5c1d24be0a9c7e6d5f4b3a291_a.png"


class ImageOptions(OptionsQuery):
    is_async: bool = Field(
        False, validation_alias="async", description="Answer at once, with the address where the results will stand."
    )
    processors: Names | None = Field(None, description="Names of processors, by comma; without it all of them.")


class HistoryQuery(Request):
    page: int = Field(1, ge=1, le=2**31)
    count: int = Field(20, ge=1, le=1000)


class NamePath(Request):
    filename: str = Field(description="An image's name, as this service gave it.", examples=[NAME])


class ImageDone(BaseModel):
    image: str = Field(examples=[NAME])
    image_url: str = Field(examples=[f"http://host/images/view/{NAME}"])
    result: dict[str, Any] = Field(
        description="By the name of each processor; under `errors`, likewise, why those failed that did.",
        examples=[RESULT],
    )
    callback_secret: str | None = Field(default=None, description=CALLBACK_SECRET)


class ImageAccepted(BaseModel):
    image: str = Field(examples=[NAME])
    image_url: str = Field(examples=[f"http://host/images/view/{NAME}"])
    results_url: str = Field(examples=[f"http://host/images/results/{NAME}"])
    job_id: int
    callback_secret: str | None = Field(default=None, description=CALLBACK_SECRET)


class ImageRecord(BaseModel):
    image_name: str = Field(examples=[NAME])
    image_url: str = Field(examples=[f"http://host/images/view/{NAME}"])
    results: dict[str, Any] = Field(examples=[RESULT])
    uploaded_at: Shown


class ImageRecords(RootModel[list[ImageRecord]]):
    """A page of images, newest first."""


class DetailedError(BaseModel):
    error: str = Field(examples=["this cannot be taken"])
    details: str = Field(examples=["image: It is a web page (HTML), not an image."])
