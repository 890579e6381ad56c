"""Why an image that was downloaded could not be read, or a processor failed on it: stable codes and what they mean."""

from __future__ import annotations

OUT_OF_MEMORY = "out_of_memory"

CODES = {
    "not_an_image": "What the address holds is no image (a web page, a text, a document).",
    "format_not_allowed": "It is an image, in a format that IMAGE_FORMATS does not name.",
    "too_many_pixels": "The image has more pixels than IMAGE_MAX_PIXELS.",
    "broken_image": "It begins like an image, and its header cannot be read.",
    "broken_pixels": "Its header is whole, and its pixels cannot be decoded: the file is cut off or damaged.",
    OUT_OF_MEMORY: "Decoding it takes more memory than DECODE_MAX_MEMORY_MB.",
    "decoder_crashed": "The process that worked on it died, three times.",
    "decoder_timeout": "Decoding it, or a processor, took longer than DECODE_TIMEOUT_SECONDS.",
    "no_decoder": "No process to decode it could be started; the worker's log says why.",
}
TRANSIENT = {"no_decoder"}
# Of one processor on one image, in its ``error``; a processor may also give one of the codes above.
PROCESSOR_CODES = {
    "processor_failed": "The processor raised an error; the message is the error's.",
    "bad_result": "What it returned is not JSON, or too long.",
    OUT_OF_MEMORY: "It needs more memory than DECODE_MAX_MEMORY_MB.",
    "unknown_processor": "The worker does not have this processor.",
}
