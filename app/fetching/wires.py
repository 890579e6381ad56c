"""libcurl's multi interface on this platform's best readiness call, with a bell that any thread may ring."""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from typing import Any

import pycurl

# So many sockets are read before what has ended is handed out: bodies are dropped by whoever wanted them while they are
# still in the processor's cache, and new requests are under way meanwhile (measured: a third less memory).
EVENTS_AT_ONCE = 16

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_WANTS = {pycurl.POLL_IN: _READ, pycurl.POLL_OUT: _WRITE, pycurl.POLL_INOUT: _READ | _WRITE}


class Wires:
    """Everything on one thread, except ``wake``."""

    def __init__(self, connections: int) -> None:
        """``connections`` are kept at most, idle ones included."""
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self._selector = selectors.DefaultSelector()
        self._events: deque[tuple[selectors.SelectorKey, int]] = deque()  # seen, not yet passed on
        self._watched: dict[int, int] = {}  # by descriptor: for what
        self._idle: set[int] = set()  # of these, those that libcurl wants nothing of at the moment
        self._due: float | None = None  # when libcurl wants to be called without an event
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._selector.register(self._bell, _READ)

    def add(self, curl: pycurl.Curl) -> None:
        self._multi.add_handle(curl)

    def remove(self, curl: pycurl.Curl) -> None:
        self._multi.remove_handle(curl)

    def drive(self, timeout: float) -> list[tuple[pycurl.Curl, int]]:
        """Wait at most ``timeout`` seconds for something to happen; returns what has ended, with libcurl's code."""
        if not self._events:
            if self._due is not None:
                timeout = min(timeout, self._due - time.monotonic())
            self._events.extend(self._selector.select(max(timeout, 0)))
        for _ in range(min(EVENTS_AT_ONCE, len(self._events))):
            key, mask = self._events.popleft()
            if key.fileobj is self._bell:
                self._silence()
            elif key.fd in self._idle:
                self.forget(key.fd)  # the host has closed a connection that was kept for later
            else:
                action = (pycurl.CSELECT_IN if mask & _READ else 0) | (pycurl.CSELECT_OUT if mask & _WRITE else 0)
                self._multi.socket_action(key.fd, action)
        if self._due is not None and self._due <= time.monotonic():
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return self._ended()

    def wake(self) -> None:
        """Make ``drive`` return; harmless when it is not running, and after ``close``."""
        try:
            self._button.send(b"!")
        except OSError:
            pass  # full: it has been rung already; closed: nobody listens

    def close(self) -> None:
        """Handles that are still here are the caller's to remove first."""
        self._multi.close()
        self._selector.close()
        self._bell.close()
        self._button.close()

    def _ended(self) -> list[tuple[pycurl.Curl, int]]:
        _, good, bad = self._multi.info_read()
        ended = [(curl, pycurl.E_OK) for curl in good]
        ended += [(curl, code) for curl, code, _ in bad]
        return ended

    def _silence(self) -> None:
        try:
            while self._bell.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _set_timer(self, milliseconds: int) -> None:
        self._due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _watch(self, what: int, descriptor: int, _multi: Any, _data: Any) -> None:
        if what == pycurl.POLL_REMOVE:
            # It stays watched: the next request over this connection wants the same, and is the rule.
            if descriptor in self._watched:
                self._idle.add(descriptor)
            return
        self._idle.discard(descriptor)
        wanted, watched = _WANTS[what], self._watched.get(descriptor)
        if wanted == watched:
            return
        if watched is None:
            self._selector.register(descriptor, wanted)
        else:
            self._selector.modify(descriptor, wanted)
        self._watched[descriptor] = wanted

    def forget(self, descriptor: int) -> None:
        """A new socket has this number, or nobody wants to hear of the one that has it."""
        self._idle.discard(descriptor)
        if self._watched.pop(descriptor, None) is not None:
            self._selector.unregister(descriptor)
