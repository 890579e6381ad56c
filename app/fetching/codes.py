"""Why a download fails: every stable code, what it means, and whether a later attempt may succeed."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import FetchError

MESSAGE_MOST_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Code:
    """``is_host_fault``: it counts against the host, whose cap shrinks and whose breaker may open."""

    meaning: str
    transient: bool = False
    is_host_fault: bool = False


CODES = {
    "invalid_url": Code("The URL, or one that it redirects to, is not a usable http or https URL."),
    "blocked_address": Code("The host has only addresses that must not be reached: private, local or special ones."),
    "dns_not_found": Code("The host's name does not exist or has no address."),
    "dns_error": Code("The name server did not answer or was in trouble.", transient=True),
    "connect_error": Code(
        "The host refused, reset or closed the connection, or cannot be reached.", transient=True, is_host_fault=True
    ),
    "timeout": Code("The host did not connect or did not finish in time.", transient=True, is_host_fault=True),
    "tls_error": Code("The host's certificate is wrong, expired or for another name, or TLS failed otherwise."),
    "http_<status>": Code("The host answered with this status; 408, 425, 429 and 5xx may pass."),
    "too_many_redirects": Code("The host redirected more often than FETCH_MAX_REDIRECTS."),
    "bad_redirect": Code("The host redirected without saying where to, or illegibly."),
    "too_large": Code("The body is longer than FETCH_MAX_BYTES; it was read no further."),
    "truncated": Code("The body ended before its announced end.", transient=True),
    "empty_body": Code("The host answered well, with nothing in the body."),
    "bad_response": Code("What the host answered is not proper HTTP."),
}

_MAY_PASS = Code(CODES["http_<status>"].meaning, transient=True)
_OVERLOADED = Code(CODES["http_<status>"].meaning, transient=True, is_host_fault=True)


def find(code: str) -> Code:
    """The entry of a code, also of a concrete one such as ``http_404``."""
    if not code.startswith("http_"):
        return CODES[code]
    status = int(code.removeprefix("http_"))
    if status == 429 or 500 <= status <= 599:
        return _OVERLOADED
    return _MAY_PASS if status in (408, 425) else CODES["http_<status>"]


def error(code: str, message: str, *, retry_after: float | None = None) -> FetchError:
    """A FetchError of this code; the message becomes one bounded line."""
    line = " ".join(message.split())[:MESSAGE_MOST_CHARACTERS]
    printable = "".join(letter if letter.isprintable() else "?" for letter in line)
    return FetchError(code, printable, transient=find(code).transient, retry_after=retry_after)


def blocked() -> FetchError:
    """Every address of the host is refused by the guard."""
    return error("blocked_address", "The host has only private, local or special addresses, which must not be reached.")
