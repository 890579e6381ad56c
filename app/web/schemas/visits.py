"""Visits of stores."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, BaseModel, Field

from app.web import fields
from app.web.schemas.base import Request, Shown


class VisitsQuery(Request):
    area: fields.Text | None = Field(None, examples=["710006"])
    storeid: fields.StoreId | None = Field(
        None,
        validation_alias=AliasChoices("storeid", "store", "store_id"),
        description="Also read as `store` and `store_id`.",
        examples=["S00339218"],
    )
    startdate: fields.RangeStart | None = Field(None, validation_alias=AliasChoices("startdate", "startDate"))
    enddate: fields.RangeEnd | None = Field(None, validation_alias=AliasChoices("enddate", "endDate"))
    format: Literal["grouped", "flat"] = Field("grouped", description="`flat` gives one row a visit.")
    per_page: int = Field(10_000, ge=1, le=50_000, description="Most visits a page.")
    cursor: str | None = Field(None, description="`next` of the page before.")
    total: bool = Field(False, description="Whether to count all visits that match.")


class VisitAnswer(BaseModel):
    date: Shown
    perimeter: int = Field(description="The sum over the visit's images.")
    images: int
    average_seconds: float = Field(description="Mean time that one of its images took.")


class StoreVisits(BaseModel):
    store_id: str
    area: str
    store_name: str
    data: list[VisitAnswer]


class FlatVisit(BaseModel):
    store_id: str
    area: str
    store_name: str
    date: Shown
    perimeter: int


class VisitsAnswer(BaseModel):
    results: list[StoreVisits] | list[FlatVisit]
    next: str | None = Field(description="The cursor of the next page; null at the end.")
    total: int | None = Field(default=None, description="All visits that match, where `total=1` asked for it.")
