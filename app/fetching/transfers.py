"""One libcurl handle, used again and again: what is set on it, what it read, and how it ended."""

from __future__ import annotations

import email.utils
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycurl

from app.errors import FetchError
from app.fetching import codes, urls
from app.fetching.addresses import AddressGuard
from app.fetching.budgets import Budget
from app.fetching.limits import FetchLimits
from app.fetching.results import Look
from app.fetching.urls import Target

# The body of an error or a redirect is read (and dropped) so far, to keep the connection; past it, it is cut.
OTHER_BODY_MOST_BYTES = 64 * 1024
# libcurl reads this much at once: fewer system calls a body. It hands it on in pieces of 16 KB.
READ_BYTES = 256 * 1024
RETRY_AFTER_MOST_SECONDS = 86_400.0
REDIRECTS = frozenset((301, 302, 303, 307, 308))

_STATUS_LINE = re.compile(rb"HTTP/\S+\s+([0-9]{3})")
_SECONDS = re.compile(r"[0-9]{1,6}")
_TLS_CODES = frozenset(
    getattr(pycurl, name)
    for name in (
        "E_SSL_CONNECT_ERROR",
        "E_SSL_CERTPROBLEM",
        "E_SSL_CIPHER",
        "E_PEER_FAILED_VERIFICATION",
        "E_SSL_CACERT",
        "E_SSL_ISSUER_ERROR",
        "E_SSL_CRL_BADFILE",
        "E_SSL_SHUTDOWN_FAILED",
        "E_SSL_INVALIDCERTSTATUS",
        "E_SSL_PINNEDPUBKEYNOTMATCH",
    )
    if hasattr(pycurl, name)
)
_PAUSE = int(pycurl.WRITEFUNC_PAUSE)
_HANDSHAKE_CUT = ("Send failure", "Recv failure", "unexpected eof", "SSL_ERROR_SYSCALL")
_BAD_RESPONSE_CODES = frozenset(
    (pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_BAD_CONTENT_ENCODING, 8, 100)  # 8: weird reply, 100: header too large
)


class Transfer:
    """A handle of the free list. ``begin``, then let libcurl drive ``curl``, then ``conclude``, then ``clear``."""

    def __init__(
        self,
        limits: FetchLimits,
        guard: AddressGuard,
        budget: Budget,
        ca_file: Path,
        *,
        on_socket: Callable[[int], None] = lambda _descriptor: None,
    ) -> None:
        """``on_socket`` is told the descriptor of each connection that is opened."""
        self._on_socket = on_socket
        self._limits = limits
        self._guard = guard
        self._budget = budget
        self._chunks: list[bytes] = []
        self._headers: list[bytes] = []
        self._most = 0
        self._is_refused = False
        self._is_opened = False
        self._origin: urls.Origin | None = None
        self._has_authorization = False
        self._timeout_ms = 0
        self._look: Look | None = None
        self.size = 0  # bytes of the body so far, those of an error page included
        self.held = 0  # of these, how many are kept
        self.status = 0  # of the answer, once it has been concluded
        self.seen: Any = None  # what the look at the beginning of the body told
        self.owner: Any = None  # whose request it is; kept for the caller
        self.started_at = 0.0
        self.curl = pycurl.Curl()
        self.curl.transfer = self
        self._set_lasting_options(ca_file)

    def begin(self, target: Target, addresses: tuple[str, ...], seconds: float, look: Look | None = None) -> None:
        """Set what is this request's own; ``addresses`` are those of a name, empty where the host is an address."""
        setopt = self.curl.setopt
        self._look = look
        origin = target.origin
        if origin is not self._origin:
            setopt(pycurl.URL, origin.url)
            self._origin = origin
        setopt(pycurl.REQUEST_TARGET, target.request)
        if addresses:
            setopt(pycurl.RESOLVE, [_resolve_entry(origin, addresses)])
        if target.authorization or self._has_authorization:
            self._authorize(target.authorization)
        timeout_ms = max(1, int(seconds * 1000))
        if timeout_ms != self._timeout_ms:
            setopt(pycurl.TIMEOUT_MS, timeout_ms)
            self._timeout_ms = timeout_ms

    def conclude(self, target: Target, code: int) -> bytes | Target | FetchError:
        """The body, or where to go on, or what went wrong."""
        status = self.status = self.curl.getinfo(pycurl.RESPONSE_CODE)
        if 200 <= status < 300 and status != 206:
            if code:
                return self._failure(code, status)
            if not self.size:
                return codes.error("empty_body", "The host sent an empty body.")
            return b"".join(self._chunks)
        # Whatever happened to the body after another status, the status is what counts.
        if status in REDIRECTS:
            return self._redirect(target)
        if status >= 200 and code not in _BAD_RESPONSE_CODES:
            return codes.error(f"http_{status}", f"The host answered {status}.", retry_after=self._retry_after())
        return self._failure(code, status)

    def clear(self) -> None:
        """Keep nothing of the last request: a free handle costs no body."""
        self._budget.give_back(self)
        self._chunks.clear()
        self._headers.clear()
        self.size = self.held = self.status = 0
        self.seen = self._look = None
        self._is_refused = self._is_opened = False
        self.owner = None

    def resume(self) -> None:
        """Go on reading; the budget has made room."""
        try:
            self.curl.pause(pycurl.PAUSE_CONT)
        except pycurl.error:
            pass  # what it had in hand broke a limit: libcurl ends the transfer, and ``conclude`` tells why

    def close(self) -> None:
        self.curl.transfer = None
        self.curl.close()

    def _set_lasting_options(self, ca_file: Path) -> None:
        limits = self._limits
        for option, value in (
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.PROXY, ""),
            (pycurl.NOPROXY, "*"),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.NOSIGNAL, 1),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.HTTP_CONTENT_DECODING, 0),
            (pycurl.MAXFILESIZE_LARGE, limits.max_bytes),
            (pycurl.CONNECTTIMEOUT_MS, max(1, int(limits.connect_timeout_seconds * 1000))),
            # Longer than our own memory of names: each transfer brings its addresses along (RESOLVE).
            (pycurl.DNS_CACHE_TIMEOUT, int(limits.dns_cache_seconds * 4) + 60),
            (pycurl.BUFFERSIZE, READ_BYTES),
            (pycurl.SSL_VERIFYPEER, 1),
            (pycurl.SSL_VERIFYHOST, 2),
            (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
            (pycurl.CAINFO, str(ca_file)),
            (pycurl.OPENSOCKETFUNCTION, self._open_socket),
            (pycurl.SOCKOPTFUNCTION, self._tell_of_socket),
            (pycurl.WRITEFUNCTION, self._write),
            (pycurl.HEADERFUNCTION, self._headers.append),
            (pycurl.USERAGENT, limits.user_agent),
            (pycurl.HTTPHEADER, self._request_headers(None)),
        ):
            self.curl.setopt(option, value)

    def _request_headers(self, authorization: str | None) -> list[str]:
        headers = ["Accept: image/*,*/*;q=0.5", "Accept-Encoding: identity"]
        return [*headers, f"Authorization: {authorization}"] if authorization else headers

    def _authorize(self, authorization: str | None) -> None:
        self.curl.setopt(pycurl.HTTPHEADER, self._request_headers(authorization))
        self._has_authorization = authorization is not None

    def _open_socket(self, _purpose: int, address: Any) -> Any:
        """Called for every new connection of every hop: what the guard refuses gets no socket, hence no packet."""
        family = getattr(address, "family", None)
        if family not in (socket.AF_INET, socket.AF_INET6) or not self._guard.is_allowed(address.addr[0]):
            self._is_refused = True
            return pycurl.SOCKET_BAD
        self._is_opened = True
        try:
            return socket.socket(address.family, address.socktype, address.protocol)
        except OSError:
            return pycurl.SOCKET_BAD

    def _tell_of_socket(self, descriptor: int, _purpose: int) -> int:
        # Not where it is opened: libcurl is given a duplicate, under another number.
        self._on_socket(descriptor)
        return int(pycurl.SOCKOPT_OK)

    def _write(self, chunk: bytes) -> int | None:
        """Called a dozen times for a photo: 16 KB each."""
        size = self.size + len(chunk)
        if self.seen is None:
            if not self.size:
                self._begin_body(chunk)
            if self.seen is None and size <= self._most:
                if not self._budget.take(self, len(chunk)):
                    return _PAUSE
                self._chunks.append(chunk)
                self.held = size
        self.size = size
        return None if size <= self._most else -1

    def _begin_body(self, chunk: bytes) -> None:
        is_good = 200 <= self._last_status() < 300
        self._most = self._limits.max_bytes if is_good else OTHER_BODY_MOST_BYTES
        if is_good and self._look:
            self.seen = self._look(chunk)

    def _last_status(self) -> int:
        for line in reversed(self._headers):
            if line.startswith(b"HTTP/") and (match := _STATUS_LINE.match(line)):
                return int(match[1])
        return 0

    def _header(self, name: bytes) -> bytes | None:
        """The value of a header of the last response."""
        for line in reversed(self._headers):
            field, colon, value = line.partition(b":")
            if colon and field.strip().lower() == name:
                return value.strip()
            if line.startswith(b"HTTP/"):
                return None
        return None

    def _redirect(self, target: Target) -> Target | FetchError:
        try:
            return urls.redirect(target, self._header(b"location") or b"", self._limits.max_url_bytes)
        except FetchError as error:
            return error

    def _retry_after(self) -> float | None:
        return read_retry_after(self._header(b"retry-after"), time.time())

    def _failure(self, code: int, status: int) -> FetchError:
        if code == pycurl.E_OPERATION_TIMEDOUT:
            return self._timeout()
        if code == pycurl.E_COULDNT_CONNECT:
            return self._not_connected()
        if code in (pycurl.E_FILESIZE_EXCEEDED, pycurl.E_WRITE_ERROR):
            return codes.error("too_large", f"The body is longer than {self._limits.max_bytes} bytes.")
        if code in (pycurl.E_PARTIAL_FILE, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR, pycurl.E_GOT_NOTHING):
            return self._broken_off(code, status)
        if code in _TLS_CODES:
            return self._tls_failure()
        if code in _BAD_RESPONSE_CODES or code == pycurl.E_OK:
            return codes.error("bad_response", "What the host answered is not proper HTTP.")
        if code == pycurl.E_URL_MALFORMAT:
            return codes.error("invalid_url", "The URL has a host that cannot be used.")
        if code == pycurl.E_COULDNT_RESOLVE_HOST:
            return codes.error("dns_error", "The host's name could not be looked up.")
        return codes.error("connect_error", f"The download broke off (libcurl code {code}).")

    def _timeout(self) -> FetchError:
        if self.curl.errstr().startswith("Connection timed out"):
            return codes.error("timeout", "The host did not accept the connection in time.")
        return codes.error("timeout", f"The host did not finish within {self._limits.timeout_seconds:g} seconds.")

    def _not_connected(self) -> FetchError:
        if self._is_refused and not self._is_opened:
            return codes.blocked()
        return codes.error("connect_error", f"The host could not be reached{self._system_reason()}.")

    def _broken_off(self, code: int, status: int) -> FetchError:
        if not status:
            return codes.error(
                "connect_error", f"The host closed the connection without an answer{self._system_reason()}."
            )
        if code == pycurl.E_RECV_ERROR and not self.curl.getinfo(pycurl.OS_ERRNO):
            return codes.error("bad_response", "The host's answer is not proper HTTP: its chunks cannot be read.")
        return codes.error("truncated", "The body ended before its announced end.")

    def _tls_failure(self) -> FetchError:
        reason = self.curl.errstr()
        # A connection that was cut during the handshake says nothing about certificates.
        if any(sign in reason for sign in _HANDSHAKE_CUT):
            return codes.error("connect_error", "The host closed the connection during the TLS handshake.")
        return codes.error("tls_error", f"The host's certificate or TLS is not accepted: {reason}")

    def _system_reason(self) -> str:
        number = self.curl.getinfo(pycurl.OS_ERRNO)
        return f" ({os.strerror(number).lower()})" if number else ""


def read_retry_after(value: bytes | None, now: float) -> float | None:
    """Seconds from a Retry-After header (RFC 9110, 10.2.3); None where it is absent, past, illegible or over a day."""
    if not value:
        return None
    text = value.decode("latin-1")
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError, TypeError):
            return None
    return seconds if 0 <= seconds <= RETRY_AFTER_MOST_SECONDS else None


def _resolve_entry(origin: urls.Origin, addresses: tuple[str, ...]) -> str:
    listed = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
    # The plus lets libcurl forget the entry in time, so that its table does not grow with every name ever seen.
    return f"+{origin.host}:{origin.port}:{listed}"
