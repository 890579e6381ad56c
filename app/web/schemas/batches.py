"""Batches of photos from cameras."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, RootModel, StringConstraints

from app.times import MOST_CHARACTERS
from app.web import fields
from app.web.schemas.base import Request
from app.web.schemas.options import CALLBACK_SECRET

# Numbers are how some cameras send barcodes and times; they come back as text.
AsText = BeforeValidator(
    lambda value: str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
)
# Kept as it is, edge spaces too: it comes back as it was sent.
Kept = Annotated[str, AsText, StringConstraints(max_length=255), AfterValidator(fields.has_no_controls)]
KeptTime = Annotated[str, AsText, StringConstraints(max_length=MOST_CHARACTERS), AfterValidator(fields.has_no_controls)]


class PhotoBody(Request):
    file: str = Field(description="The image in base64.", json_schema_extra={"contentEncoding": "base64"})
    timestamp: KeptTime = Field(
        description="Comes back as it was sent; in one of the formats of `visit_time` it can be searched by.",
        examples=["2019-10-11 17:20:05"],
    )
    store_name: Kept = Field(description="No id: kept as text, and matched to the store master where it is unique.")
    camera_id: Kept = Field(examples=["entrance-2"])
    barcode: Kept = Field(examples=["4006381333931"])


class BatchCreated(BaseModel):
    success: bool
    batch_id: str = Field(description="As `_id.$oid` in the list of batches.", examples=["00000000000000000000007b"])
    job_id: int = Field(description="The job that works on the images.", examples=[123])
    callback_secret: str | None = Field(default=None, description=CALLBACK_SECRET)


class BatchesQuery(Request):
    # Demanded, since the service that this door stands for did so.
    page: int = Field(ge=1, le=2**31, examples=[1])
    per_page: int = Field(ge=1, le=1000, examples=[100])
    store_name: Kept | None = Field(None, description="Only photos of this store, by its name as it was sent.")
    camera_id: Kept | None = Field(None, description="Only photos of this camera.")
    barcode: Kept | None = Field(None, description="Only photos with this barcode.")
    start: fields.RangeStart | None = Field(None, validation_alias="from")
    end: fields.RangeEnd | None = Field(None, validation_alias="to")


class ObjectId(BaseModel):
    oid: str = Field(serialization_alias="$oid", examples=["00000000000000000000007b"])


class PhotoAnswer(BaseModel):
    file_path: str = Field(examples=["uploads/3f1f9f5e-5f0b-4a39-8f4e-9f6f4a1f2b3c.jpg"])
    timestamp: str | None
    store_name: str | None
    camera_id: str | None
    barcode: str | None


class BatchAnswer(BaseModel):
    id: ObjectId = Field(serialization_alias="_id")
    images: list[PhotoAnswer]


class BatchesAnswer(RootModel[list[BatchAnswer]]):
    """A page of batches, newest first."""
