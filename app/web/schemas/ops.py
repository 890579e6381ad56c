"""The service itself."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class IndexAnswer(BaseModel):
    service: str
    version: str
    routes: list[str]


class HealthAnswer(BaseModel):
    status: Literal["ok", "degraded"]
    broker: Literal["down"] = Field(
        default="down", description="Given only while the broker is down: jobs are still accepted."
    )
    storage: Literal["down"] = Field(
        default="down", description="Given only while files cannot be read or written: jobs by URL are still accepted."
    )
    webhooks: Literal["late"] = Field(
        default="late", description="Given only while webhooks are due that nobody sends: is `deliver` running?"
    )
