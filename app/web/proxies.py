"""Reverse proxies that are trusted: whose word it is where a request comes from, and whether it came by TLS."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
UNIX = "unix"


class TrustedProxies:
    """WSGI middleware that puts the client's address in place of the proxy's. What others claim is left alone."""

    def __init__(self, application: Wsgi, trusted: Sequence[str]) -> None:
        self._application = application
        self._trusts_unix = UNIX in trusted
        self._networks = [ipaddress.ip_network(network) for network in trusted if network != UNIX]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._is_trusted(environ.get("REMOTE_ADDR", "")):
            environ["REMOTE_ADDR"] = self._client(environ)
            scheme = environ.get("HTTP_X_FORWARDED_PROTO", "")
            if scheme in ("http", "https"):
                environ["wsgi.url_scheme"] = scheme
        return self._application(environ, start_response)

    def _client(self, environ: dict[str, Any]) -> str:
        """The last address that no trusted proxy has: what stands before it is its own claim."""
        client: str = environ.get("REMOTE_ADDR", "")
        for address in reversed(environ.get("HTTP_X_FORWARDED_FOR", "").split(",")):
            if not _parsed(address.strip()):
                break
            client = address.strip()
            if not self._is_trusted(client):
                break
        return client

    def _is_trusted(self, address: str) -> bool:
        if not address:
            return self._trusts_unix
        found = _parsed(address)
        return found is not None and any(found in network for network in self._networks)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found
