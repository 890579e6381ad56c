"""What a download may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FetchLimits:
    """The limits of one ``Downloads``; the defaults are safe."""

    # Transfers at once over all hosts; a further ``downloads`` may be open to hosts that have fallen silent.
    downloads: int = 64
    # For one URL, without the time it waits for its turn: lookup, connect, every redirect, the body. The lookup of a
    # name that a redirect leads to may end up to ``dns_timeout_seconds`` past it.
    timeout_seconds: float = 30.0
    connect_timeout_seconds: float = 5.0
    max_bytes: int = 32 * 1024 * 1024
    # For all unfinished bodies together; past it transfers pause, one at a time goes on.
    max_bytes_in_flight: int = 256 * 1024 * 1024
    max_redirects: int = 5
    max_url_bytes: int = 8192
    dns_threads: int = 32
    dns_timeout_seconds: float = 5.0
    dns_cache_seconds: float = 30.0
    dns_cache_names: int = 10_000
    # A PEM file of authorities that are trusted beside the public ones.
    ca_bundle: str | None = None
    # Networks (CIDR) that may be reached although they are private or special.
    allowed_networks: tuple[str, ...] = ()
    user_agent: str = "imagejobs/0.1"
