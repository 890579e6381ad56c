"""What the shapes of all doors share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from app import times
from app.domain.cursors import MOST_NUMBER

# The number of a row, or of a place in a job; a larger one no database could look for.
RowNumber = Annotated[int, Field(ge=0, le=MOST_NUMBER)]
Shown = Annotated[datetime, PlainSerializer(times.rfc3339, return_type=str)]


class Request(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ErrorAnswer(BaseModel):
    error: str = Field(examples=["visits[3].image_url[0]: not an http(s) URL"])
