"""Why a stored image could not be had: the stable codes, what they mean, and whether a later attempt may help."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    meaning: str
    transient: bool


CODES = {
    "storage_error": Code("Its file could not be read or written: the disk is full, the S3 server away.", True),
    "file_missing": Code("Its file is gone from storage, or the worker's host sees another storage.", False),
    "file_damaged": Code("Its file is not what was stored: the checksum differs.", False),
}
