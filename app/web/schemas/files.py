"""Stored files."""

from __future__ import annotations

from pydantic import Field

from app.web.schemas.base import Request


class PhotoPath(Request):
    name: str = Field(description="A uuid and an ending.", examples=["3f1f9f5e-5f0b-4a39-8f4e-9f6f4a1f2b3c.jpg"])


class ImagePath(Request):
    job_id: int = Field(description="The job's number.")
    seq: int = Field(description="The image's place in the job, from 0.")
