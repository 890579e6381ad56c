"""Messages signed as Standard Webhooks has it (https://www.standardwebhooks.com): secrets, headers."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64
OUR_BYTES = 32


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(OUR_BYTES)).decode()


def read_secret(secret: str) -> bytes:
    """The key in a secret. Raises ValueError."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(f"must be {PREFIX} and {LEAST_BYTES} to {MOST_BYTES} bytes in base64")
    return key


def headers(message_id: str, at: int, body: bytes, with_secrets: Iterable[str]) -> dict[str, str]:
    """The three headers of a message; ``at`` is in whole seconds since 1970. While a secret is being changed, the old
    one signs as well."""
    content = f"{message_id}.{at}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.digest(read_secret(each), content, hashlib.sha256)).decode()
        for each in with_secrets
    ]
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": " ".join(signatures)}
