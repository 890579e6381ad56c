"""URLs as they are sent: split once, here, so that no second parser can read them otherwise.

libcurl is only ever given ``scheme://host:port/`` built from what was checked; the path and query go out byte for byte
as the request target.
"""

from __future__ import annotations

import base64
import re
import socket
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import idna

from app.fetching import codes

# What a door looks at when a URL comes in, thousands at a time; the rest is found out when it is fetched. Read by
# pydantic's own engine, not by Python: 10,000 of them take about 3 ms. Nothing is normalised, since a changed
# byte would break a signed URL. After the scheme: perhaps user@, some host, and then anything but control characters.
PATTERN = (
    r"^[hH][tT][tT][pP][sS]?://"
    r"(?:[^/?#@\\\x00-\x20\x7f]*@)?[^/?#@:\\\x00-\x20\x7f][^/?#@\\\x00-\x20\x7f]*"
    r"(?:[/?#][^\x00-\x1f\x7f]*)?$"
)

# RFC 3986, appendix B.
_REFERENCE = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_LABELS = re.compile(r"(?=.{1,254}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*\.?")
_NUMERIC_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")
_PORT = re.compile(r"[0-9]{0,5}")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """One scheme, host and port. ``host`` is ASCII in lower case; an IPv6 address stands without its brackets."""

    scheme: str
    host: str
    port: int
    is_literal: bool  # the host is an address already, in its canonical form

    @property
    def url(self) -> bytes:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/".encode()


class Target(NamedTuple):
    """A checked URL: where to connect, and the exact bytes to ask for there."""

    origin: Origin
    authority: str  # as written, for relative redirects; may hold a password
    request: bytes  # path and query
    authorization: str | None  # the value of the header that the URL's credentials make

    def __repr__(self) -> str:
        return f"Target({self.origin.scheme}://{self.origin.host}:{self.origin.port})"


def parse(url: str, most_bytes: int) -> Target:
    """Split and check a URL; spaces at its ends are dropped, inner ones sent as %20.

    Raises FetchError ``invalid_url``.
    """
    try:
        return _parse(url, most_bytes, "strict")
    except ValueError as error:
        raise codes.error("invalid_url", f"The URL {error}.") from None


def redirect(base: Target, location: bytes, most_bytes: int) -> Target:
    """Where a Location header leads (RFC 3986, 5.2); raises FetchError ``bad_redirect`` or ``invalid_url``."""
    text = location.decode("utf-8", "surrogateescape").strip(" \t")
    if not text:
        raise codes.error("bad_redirect", "The host redirected without saying where to.")
    if len(location) > most_bytes or any(letter != " " for letter in _CONTROL.findall(text)):
        raise codes.error("bad_redirect", "The host redirected to an address that is too long or illegible.")
    try:
        return _parse(_join(base, text), most_bytes, "surrogateescape")
    except ValueError as error:
        raise codes.error("invalid_url", f"The URL that the host redirected to {error}.") from None


def _parse(url: str, most_bytes: int, errors: str) -> Target:
    if _CONTROL.search(url):
        url = _without_spaces(url)
    scheme, authority, path, query = _split(url)
    if scheme is None or scheme.lower() not in _DEFAULT_PORTS:
        raise ValueError("does not begin with http:// or https://")
    if authority is None:
        raise ValueError("has no host")
    origin, authorization = _read_authority(scheme.lower(), authority)
    if not path.startswith("/"):
        path = "/" + path
    try:
        request = (path if query is None else f"{path}?{query}").encode("utf-8", errors)
    except UnicodeEncodeError:
        raise ValueError("holds half a character") from None
    if len(request) + len(authority) > most_bytes:
        raise ValueError(f"is longer than {most_bytes} bytes")
    return Target(origin, authority, request, authorization)


def _split(url: str) -> tuple[str | None, str | None, str, str | None]:
    match = _REFERENCE.fullmatch(url)
    assert match  # the expression matches every text
    scheme, authority, path, query = match.groups()
    return scheme, authority, path, query


def _without_spaces(url: str) -> str:
    stripped = url.strip(" \t\r\n")
    if any(letter != " " for letter in _CONTROL.findall(stripped)):
        raise ValueError("holds control characters")
    return stripped.replace(" ", "%20")


@lru_cache(1024)
def _read_authority(scheme: str, authority: str) -> tuple[Origin, str | None]:
    credentials, at, location = authority.rpartition("@")
    if "\\" in authority:
        raise ValueError("has a backslash before its path")
    if location.startswith("["):
        literal, bracket, rest = location[1:].partition("]")
        host, is_literal = _ipv6(literal if bracket else ""), True
        if rest and not rest.startswith(":"):
            raise ValueError("has a host that cannot be read")
        port = rest[1:]
    else:
        name, _, port = location.partition(":")
        host, is_literal = _host(name)
    return Origin(scheme, host, _port(port, scheme), is_literal), _authorization(credentials) if at else None


def _ipv6(literal: str) -> str:
    try:
        address = IPv6Address(literal)
    except AddressValueError:
        raise ValueError("has a host that cannot be read") from None
    if address.scope_id is not None:
        raise ValueError("has a host with a zone")
    return str(address)


def _host(name: str) -> tuple[str, bool]:
    if not name:
        raise ValueError("has no host")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode()
        except (idna.IDNAError, UnicodeError):
            raise ValueError("has a host that is not a domain name") from None
    name = name.lower()
    if not _LABELS.fullmatch(name):
        raise ValueError("has a host that is not a domain name")
    if not _NUMERIC_END.fullmatch(name):
        return name, False
    # 127.1, 0x7f.1 and 2130706433 are IPv4 addresses to every resolver, so they are to us.
    try:
        return socket.inet_ntoa(socket.inet_aton(name.removesuffix("."))), True
    except OSError:
        raise ValueError("has a host that is neither a name nor an address") from None


def _port(port: str, scheme: str) -> int:
    if not _PORT.fullmatch(port) or (port and not 1 <= int(port) <= 65535):
        raise ValueError("has a port that is not between 1 and 65535")
    return int(port) if port else _DEFAULT_PORTS[scheme]


def _authorization(credentials: str) -> str | None:
    if not credentials.strip(":"):
        return None
    user, _, password = credentials.partition(":")
    pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return "Basic " + base64.b64encode(pair).decode()


def _join(base: Target, reference: str) -> str:
    scheme, authority, path, query = _split(reference.replace(" ", "%20"))
    base_path, mark, base_query = base.request.decode("utf-8", "surrogateescape").partition("?")
    if scheme is None:
        scheme = base.origin.scheme
        if authority is None:
            authority = base.authority
            if not path:
                path, query = base_path, query if query is not None else (base_query if mark else None)
            elif not path.startswith("/"):
                path = base_path.rpartition("/")[0] + "/" + path
    if authority is None:
        return f"{scheme}:{path}"
    joined = f"{scheme}://{authority}{_without_dots(path)}"
    return joined if query is None else f"{joined}?{query}"


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4, for a path that is empty or begins with a slash."""
    kept: list[str] = []
    parts = path.split("/")
    for part in parts[1:]:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    if parts[-1] in (".", ".."):
        kept.append("")
    return "".join("/" + part for part in kept)
