"""Why an image that was downloaded could not be read: the stable codes and what they mean."""

from __future__ import annotations

CODES = {
    "not_an_image": "What the address holds is no image (a web page, a text, a document).",
    "format_not_allowed": "It is an image, in a format that IMAGE_FORMATS does not name.",
    "too_many_pixels": "The image has more pixels than IMAGE_MAX_PIXELS.",
    "broken_image": "It begins like an image, and its header cannot be read.",
}
