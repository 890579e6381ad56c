"""What may be asked of the job, whichever door its images come in by."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from app.domain.plans import JobOptions
from app.domain.turns import PRIORITY_NORMAL
from app.errors import InvalidRequestError
from app.web import fields
from app.web.schemas.base import Request
from app.web.schemas.webhooks import SECRET_WORDS, Secret

PRIORITY_MOST = 9
CALLBACK_SECRET = "Where a callback_url came without one: what its messages are signed with."


def _by_comma(value: Any) -> Any:
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


def _from_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None


Names = Annotated[list[fields.Text], Field(max_length=100), BeforeValidator(_by_comma, json_schema_input_type=str)]
JsonText = Annotated[fields.Metadata, BeforeValidator(_from_json, json_schema_input_type=str)]


class OptionsQuery(Request):
    """As parameters of the address, since some doors have bodies with no room for it."""

    priority: int | None = Field(
        None, ge=0, le=PRIORITY_MOST, description="A larger one gets a larger share of the workers; 5 unless given."
    )
    processors: Names | None = Field(
        None, description="Names of processors, by comma, whose results each image gets.", examples=["exif,quality"]
    )
    metadata: JsonText | None = Field(
        None, description="An object of yours in JSON, echoed back with the job.", examples=['{"tour": 7}']
    )
    keep_images: bool = Field(False, description="Whether images that are fetched are kept; those sent always are.")
    callback_url: fields.Url | None = Field(None, description="Is told when the job ends: see webhooks.")
    callback_secret: Secret | None = Field(
        None, description=f"What those messages are signed with, {SECRET_WORDS}; one is made unless given."
    )

    def as_options(self, *, is_secret_told: bool = True) -> JobOptions:
        """Raises InvalidRequestError where a secret would have to be made and the answer has no room for it."""
        if self.callback_url and not self.callback_secret and not is_secret_told:
            raise InvalidRequestError("callback_secret: must come with a callback_url here")
        return JobOptions(
            priority=PRIORITY_NORMAL if self.priority is None else self.priority,
            processors=self.processors,
            client_metadata=self.metadata,
            keep_images=self.keep_images,
            callback_url=self.callback_url,
            callback_secret=self.callback_secret,
        )
