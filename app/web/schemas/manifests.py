"""Manifests: lists of ids and URLs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, RootModel

from app.web.schemas.options import CALLBACK_SECRET


class ImageInfo(BaseModel):
    image_size: int = Field(description="Bytes.", examples=[88])
    image_dimension: list[int] = Field(description="Width and height in pixels.", examples=[[64, 48]])
    image_format: str = Field(examples=["PNG"])


class ImageEntry(BaseModel):
    url: str
    image_info: ImageInfo | Literal[""] = Field(description="Empty where there is an error.")
    error: (
        Literal["Image could not be requested.", "Image could not be opened.", "Timeout while requesting Image."] | None
    ) = None
    extra: dict[str, Any] | None = Field(None, description="What further columns of the manifest hold.")


class ImagesInfoAnswer(RootModel[dict[str, ImageEntry]]):
    """By the ids of the manifest, in its order."""


class AcceptedAnswer(BaseModel):
    ok: Literal["Processing Images"]
    job_id: int = Field(examples=[123])
    callback_secret: str | None = Field(default=None, description=CALLBACK_SECRET)


class PingAnswer(BaseModel):
    ping: str = Field(examples=["pong"])
