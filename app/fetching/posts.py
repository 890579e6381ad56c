"""One POST to a receiver that somebody outside named, under the same rule of addresses as the downloads.

The guard is asked about each address right before the socket to it is connected, so neither a name that changes its
addresses nor a second parser of URLs gets around it. Nothing is redirected, no proxy, cookie or ~/.netrc takes part.
"""

from __future__ import annotations

import http.cookiejar
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from http.client import HTTPException, RemoteDisconnected
from typing import Any

import certifi
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from app.errors import FetchError
from app.fetching import codes, urls
from app.fetching.addresses import AddressGuard
from app.fetching.resolver import look_up
from app.fetching.transfers import read_retry_after
from app.fetching.urls import Target

# So much of an answer is read, to keep the connection for the next POST; past it the connection is closed.
ANSWER_MOST_BYTES = 4096
EXCERPT_MOST_CHARACTERS = 200


@dataclass(frozen=True)
class PostLimits:
    """``timeout_seconds`` is for all of one POST but the lookup of its name, however slowly the receiver drips."""

    timeout_seconds: float = 15.0
    connect_timeout_seconds: float = 5.0
    connections: int = 32
    max_url_bytes: int = 8192
    ca_bundle: str | None = None
    allowed_networks: tuple[str, ...] = ()
    user_agent: str = "imagejobs/0.1"


@dataclass(frozen=True, slots=True)
class Answered:
    """What a receiver answered, whatever it was; ``excerpt`` is the begin of its body as printable text."""

    status: int
    seconds: float
    excerpt: str
    retry_after: float | None  # seconds, as it asked for


class Posts:
    """Any thread may ``send``; connections are kept and used again."""

    def __init__(self, limits: PostLimits) -> None:
        """Raises ValueError for an allowed network that is none, OSError for a CA bundle that cannot be read."""
        self._limits = limits
        guard = AddressGuard(limits.allowed_networks)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.clear()
        adapter = _GuardedAdapter(guard, limits)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def send(self, url: str, body: bytes, headers: dict[str, str]) -> Answered:
        """POST the body. Raises FetchError where there is no answer: an address that is refused, no connection, TLS
        that is not accepted, no status within the time."""
        target = urls.parse(url, self._limits.max_url_bytes)
        deadline = _Deadline(self._limits)
        _ours.deadline, _ours.target = deadline, target.request
        started = time.monotonic()
        try:
            return self._send(target, body, headers, deadline, started)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise _translated(error, deadline, self._limits) from error
        finally:
            deadline.end()
            _ours.deadline = _ours.target = None

    def _send(
        self, target: Target, body: bytes, headers: dict[str, str], deadline: _Deadline, started: float
    ) -> Answered:
        sent = {"User-Agent": self._limits.user_agent, "Accept": "*/*", "Accept-Encoding": "identity", **headers}
        if target.authorization:
            sent["Authorization"] = target.authorization
        # Rebuilt from what was checked, so that no other parser reads the host otherwise.
        address = target.origin.url.decode().removesuffix("/") + target.request.decode("utf-8", "replace")
        timeout = (self._limits.connect_timeout_seconds, self._limits.timeout_seconds)
        with self._session.post(
            address, data=body, headers=sent, timeout=timeout, allow_redirects=False, stream=True
        ) as answer:
            seconds = time.monotonic() - started
            asked = answer.headers.get("Retry-After")
            retry_after = read_retry_after(asked.encode("latin-1", "replace") if asked else None, time.time())
            return Answered(answer.status_code, seconds, _excerpt(answer, deadline), retry_after)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._session.close()


def check_receiver(url: str, allowed_networks: tuple[str, ...], max_url_bytes: int) -> None:
    """Refuse what can be refused without asking anybody: no usable URL, or an address that must not be reached.

    Raises FetchError; what a name leads to is seen when it is connected to.
    """
    origin = urls.parse(url, max_url_bytes).origin
    if origin.is_literal and not AddressGuard(allowed_networks).is_allowed(origin.host):
        raise codes.error("blocked_address", "The address is private, local or special, and must not be reached.")


def host_of(url: str, max_url_bytes: int) -> str:
    """``host:port`` in lower case. Raises FetchError."""
    origin = urls.parse(url, max_url_bytes).origin
    return f"{origin.host}:{origin.port}"


class _Deadline:
    """When one POST must be over. A read of a socket waits anew for every byte, so the time of all of it is kept here:
    past it the line is shut down, whatever is being waited for."""

    def __init__(self, limits: PostLimits) -> None:
        self._seconds = limits.timeout_seconds
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self.is_over = False

    def begin(self, line: socket.socket) -> None:
        """The clock runs from the first connection attempt on; ``line`` is what is shut down at the end."""
        with self._lock:
            self._let_go()
            # A handle of our own: TLS takes sockets over, and a connection may be closed before its answer is read.
            self._line = line.dup()
            if self._timer is None:
                self._timer = threading.Timer(self._seconds, self._cut)
                self._timer.daemon = True
                self._timer.start()
            if self.is_over:
                _shut(self._line)

    def end(self) -> None:
        """A second call is harmless."""
        with self._lock:
            self._let_go()
            if self._timer is not None:
                self._timer.cancel()

    def _let_go(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _cut(self) -> None:
        with self._lock:
            self.is_over = True
            if self._line is not None:
                _shut(self._line)


_ours = threading.local()  # of the POST that this thread is at: ``deadline``, and the ``target`` as bytes


def _shut(line: socket.socket) -> None:
    try:
        line.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it was not connected yet, or is not any more


class _Guarded:
    """What both kinds of connection add to urllib3's: addresses are checked, and time is bounded as a whole."""

    guard: AddressGuard
    host: str
    port: int
    timeout: Any
    _handle: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        """A connected socket to the first address that is allowed and takes it. Raises FetchError and OSError."""
        deadline: _Deadline = _ours.deadline
        failure: OSError | None = None
        for address in look_up(self.host, self.guard.is_allowed):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            line = socket.socket(family, socket.SOCK_STREAM)
            try:
                line.settimeout(self.timeout)
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connect(line, address)
                self._handle = line.dup()
                return line
            except OSError as error:
                line.close()
                failure = error
            if deadline.is_over:
                break
        raise failure or TimeoutError

    def _connect(self, line: socket.socket, address: str) -> None:
        # The one place that a connection begins, and the last look at where it goes.
        if not self.guard.is_allowed(address):
            raise codes.blocked()
        _ours.deadline.begin(line)
        line.connect((address, self.port))

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        if self._handle is not None:
            _ours.deadline.begin(self._handle)  # a connection that was kept
        # requests has written the path anew, %e4 as %E4; receivers may have signed it.
        target = _ours.target if _ours.target.isascii() else url.encode()
        super().request(method, target.decode(), *args, **kwargs)  # type: ignore[misc]

    def close(self) -> None:
        try:
            super().close()  # type: ignore[misc]
        finally:
            if self._handle is not None:
                self._handle.close()
                self._handle = None


class _GuardedAdapter(HTTPAdapter):
    """requests' adapter over connections that ask the guard."""

    def __init__(self, guard: AddressGuard, limits: PostLimits) -> None:
        self._guard = guard
        self._tls = ssl.create_default_context(cafile=certifi.where())
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        if limits.ca_bundle:
            self._tls.load_verify_locations(limits.ca_bundle)
        super().__init__(pool_connections=limits.connections, pool_maxsize=limits.connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._tls)
        plain = type("GuardedConnection", (_Guarded, HTTPConnection), {"guard": self._guard})
        tls = type("GuardedTlsConnection", (_Guarded, HTTPSConnection), {"guard": self._guard})
        self.poolmanager.pool_classes_by_scheme = {
            "http": type("GuardedPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("GuardedTlsPool", (HTTPSConnectionPool,), {"ConnectionCls": tls}),
        }

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave it to the context, which demands a certificate; its authorities are read once, not a connection."""


def _excerpt(answer: requests.Response, deadline: _Deadline) -> str:
    """The begin of the body. The status has decided already, so what happens here decides nothing."""
    body = b""
    try:
        while not deadline.is_over and (piece := answer.raw.read1(ANSWER_MOST_BYTES - len(body))):
            body += piece
            if len(body) >= ANSWER_MOST_BYTES:
                answer.raw.close()  # not to be read to its end, so the connection is of no more use
                break
    except (HTTPException, HTTPError, OSError, ValueError):
        answer.raw.close()
    text = " ".join(body.decode("utf-8", "replace").split())[:EXCERPT_MOST_CHARACTERS]
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _translated(error: Exception, deadline: _Deadline, limits: PostLimits) -> FetchError:
    cause: BaseException | None = error
    kinds: list[BaseException] = []
    while cause is not None and len(kinds) < 10:
        kinds.append(cause)
        reason = getattr(cause, "reason", None)
        cause = cause.__cause__ or (reason if isinstance(reason, BaseException) else None) or cause.__context__
    if deadline.is_over:
        return codes.error("timeout", f"The receiver did not answer within {limits.timeout_seconds:g} seconds.")
    for each in kinds:
        if isinstance(each, FetchError):
            return each
    for each in kinds:
        if isinstance(each, HTTPException) and not isinstance(each, RemoteDisconnected):
            return codes.error("bad_response", "What the receiver answered is not proper HTTP.")
        if isinstance(each, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return codes.error("connect_error", "The receiver closed the connection during the TLS handshake.")
        if isinstance(each, ssl.SSLError):
            return codes.error("tls_error", f"The receiver's certificate or TLS is not accepted: {_words(each)}")
    if any(isinstance(each, TimeoutError | requests.Timeout) for each in kinds):
        return codes.error("timeout", "The receiver did not answer in time.")
    for each in kinds:
        if isinstance(each, OSError) and each.strerror:
            return codes.error("connect_error", f"The receiver could not be reached ({each.strerror.lower()}).")
    return codes.error("connect_error", "The receiver closed the connection without an answer.")


def _words(error: ssl.SSLError) -> str:
    return getattr(error, "verify_message", "") or error.reason or "handshake failed"
