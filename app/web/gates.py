"""What is refused whoever asks: with AUTH=open whatever is not from this host, and forms that other sites send.

A browser on this host is this host's too, and shows pages of others. Two things keep those out: their requests say
where they come from (``Sec-Fetch-Site``, ``Origin``), and a page whose name has been pointed at this host afterwards
(DNS rebinding) still has its own name in ``Host``.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from flask import Flask, request

from app.errors import ForbiddenError
from config import Settings

CHANGING_METHODS = ("POST", "PUT", "PATCH", "DELETE")
# Whoever sends one of these is a proxy, and the address that we see is the proxy's.
PROXY_HEADERS = ("Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "Cf-Connecting-Ip")
PROXY_HEADERS_BEGIN = "X-Forwarded"
DEFAULT_PORTS = {"http": "80", "https": "443"}  # left out of Origin and Host
OPEN = "this service runs with AUTH=open, for requests from its own host only"
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^\[\]:@/\\\s]+)(?::(?P<port>\d{0,5}))?", re.ASCII)


def register(app: Flask, settings: Settings) -> None:
    if settings.AUTH == "open":
        app.before_request(_refuse_others)
    app.before_request(_refuse_other_sites)


def _refuse_others() -> None:
    """Raises ForbiddenError unless the request comes from this host, by no proxy, and by a name that is this host's."""
    # A Unix socket has no address: what comes by it comes by a proxy.
    if not is_loopback(request.remote_addr or ""):
        raise ForbiddenError(f"{OPEN}: this one comes from elsewhere")
    for name in request.headers.keys():  # noqa: SIM118  # iterating would give pairs
        if name in PROXY_HEADERS or name.startswith(PROXY_HEADERS_BEGIN):
            raise ForbiddenError(f"{OPEN}: this one comes by a proxy, its {name} says")
    host = request.headers.get("Host")
    if host is not None and not _is_this_host(host):
        raise ForbiddenError(f"{OPEN}: call it by the name localhost or by its address")


def _is_this_host(host: str) -> bool:
    shape = _HOST.fullmatch(host)
    name = shape["name"].strip("[]").rstrip(".").lower() if shape else ""
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


def is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def _refuse_other_sites() -> None:
    """Raises ForbiddenError where a page of another site has a browser change something here."""
    if request.method not in CHANGING_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    # Browsers tell the first to addresses by https and on this host only, and programs neither.
    is_ours = site in ("same-origin", "none") if site else origin is None or _is_of_this_service(origin)
    if not is_ours:
        raise ForbiddenError("this request was sent by a page of another site")


def _is_of_this_service(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    ours = _HOST.fullmatch(request.host)
    default = DEFAULT_PORTS.get(parts.scheme)
    if not ours or not default:
        return False
    # The scheme may differ: TLS can end at a proxy in front.
    name = ours["name"].strip("[]").lower()
    return parts.hostname == name and str(port or default) == (ours["port"] or default)
