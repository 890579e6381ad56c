"""Names to addresses, on threads of their own, with a short memory for good and bad answers.

Remembering is safe because the address is checked again on the very socket that is opened.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from app.errors import FetchError
from app.fetching import codes

# getaddrinfo cannot be interrupted: a thread that is stuck in it is given up and another started, up to this many
# times the usual number.
STUCK_THREADS_FACTOR = 4
# For glibc, which reads it when a thread first looks a name up: a query that got lost is asked again after one second
# instead of five. An environment that says something else is left alone.
RES_OPTIONS = "timeout:1 attempts:3"
HOSTS_FILE = Path("/etc/hosts")
_NOT_FOUND = {getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)}


@dataclass(frozen=True, slots=True)
class Answer:
    """The addresses of a name that may be reached, in the system's order, or why there are none.

    ``seconds`` is how long the lookup took.
    """

    addresses: tuple[str, ...] = ()
    error: FetchError | None = None
    seconds: float = 0.0


class Resolver:
    """All methods belong to one thread; ``on_answer`` is called on a lookup thread when ``collect`` has something."""

    def __init__(
        self,
        *,
        threads: int,
        timeout_seconds: float,
        cache_seconds: float,
        cache_names: int,
        is_allowed: Callable[[str], bool],
        on_answer: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        os.environ.setdefault("RES_OPTIONS", RES_OPTIONS)
        self._most_threads = threads
        self._timeout = timeout_seconds
        self._cache_seconds = cache_seconds
        self._cache_names = cache_names
        self._is_allowed = is_allowed
        self._on_answer = on_answer
        self._clock = clock
        self._cache: dict[str, tuple[float, Answer]] = {}  # until when, in the order of arrival
        self._asked: set[str] = set()
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._answered: deque[tuple[str, Answer]] = deque()  # written by the lookup threads
        self._lock = threading.Lock()  # for the next three, which the lookup threads write too
        self._running: dict[int, tuple[str, float]] = {}  # by thread: the name and since when
        self._threads = 0
        self._stuck = 0  # of these, how many are in a lookup that was given up
        self._last_answer_at = clock()

    @property
    def pending(self) -> int:
        """Names that were asked for and have no answer yet."""
        return len(self._asked)

    def find(self, name: str) -> Answer | None:
        """The remembered answer, or None: then ``ask`` for it."""
        found = self._cache.get(name)
        if found is None or found[0] <= self._clock():
            return None
        return found[1]

    def ask(self, name: str) -> None:
        """Have the name looked up; ``collect`` gives the answer. Harmless where it is being looked up already."""
        if name in self._asked:
            return
        if not self._asked:
            self._last_answer_at = self._clock()
        self._asked.add(name)
        if _is_reserved(name):
            self._answered.append((name, Answer(error=_not_found())))
            self._on_answer()
            return
        self._queue.put(name)
        self._add_thread_if_needed()

    def collect(self) -> list[tuple[str, Answer]]:
        """The answers since the last call, each name once; lookups past their time are answered ``dns_error``."""
        answers = []
        while self._answered:
            name, answer = self._answered.popleft()
            self._last_answer_at = self._clock()
            self._remember(name, answer)
            if name in self._asked:
                self._asked.remove(name)
                answers.append((name, answer))
        return answers

    def give_up_late(self) -> list[tuple[str, Answer]]:
        """Answer ``dns_error`` for lookups that are past their time; to be called a few times a second."""
        late = set(self._abandon_late())
        # No thread has come back for so long that the queue behind them will not be served either.
        if self._stuck >= self._most_threads and self._clock() - self._last_answer_at > self._timeout:
            late |= self._asked
        late &= self._asked
        self._asked -= late
        self._add_thread_if_needed()
        answer = Answer(error=codes.error("dns_error", "The host's name could not be looked up in time."))
        return [(name, answer) for name in late]

    def close(self) -> None:
        """Let the threads end; one that is stuck in a lookup ends after it. A second call is harmless."""
        for _ in range(self._threads):
            self._queue.put(None)
        self._asked.clear()

    def _remember(self, name: str, answer: Answer) -> None:
        if answer.error is not None and answer.error.transient:
            return
        self._cache.pop(name, None)
        self._cache[name] = (self._clock() + self._cache_seconds, answer)
        while len(self._cache) > self._cache_names:
            del self._cache[next(iter(self._cache))]

    def _abandon_late(self) -> list[str]:
        now = self._clock()
        with self._lock:
            late = {ident: name for ident, (name, since) in self._running.items() if now - since > self._timeout}
            for ident in late:
                del self._running[ident]
            self._stuck += len(late)
        return list(late.values())

    def _add_thread_if_needed(self) -> None:
        with self._lock:
            usable = self._threads - self._stuck
            if usable >= min(self._most_threads, len(self._asked)):
                return
            if self._threads >= self._most_threads * STUCK_THREADS_FACTOR:
                return
            self._threads += 1
        threading.Thread(target=self._serve, name="lookup", daemon=True).start()

    def _serve(self) -> None:
        me = threading.get_ident()
        while (name := self._queue.get()) is not None:
            if name not in self._asked:
                continue  # given up while it stood in the queue
            with self._lock:
                self._running[me] = (name, self._clock())
            answer = self._look_up(name)
            with self._lock:
                if self._running.pop(me, None) is None:
                    self._stuck -= 1
            self._answered.append((name, answer))
            self._on_answer()

    def _look_up(self, name: str) -> Answer:
        started = self._clock()
        error = None
        addresses: tuple[str, ...] = ()
        try:
            addresses = look_up(name, self._is_allowed)
        except FetchError as problem:
            error = problem
        return Answer(addresses, error, self._clock() - started)


def look_up(name: str, is_allowed: Callable[[str], bool]) -> tuple[str, ...]:
    """The addresses of a name that may be reached, at least one; blocks. Raises FetchError."""
    try:
        found = _addresses(name)
    except socket.gaierror as problem:
        raise (_not_found() if problem.errno in _NOT_FOUND else _in_trouble()) from problem
    except (OSError, UnicodeError) as problem:
        raise _in_trouble() from problem
    addresses = tuple(filter(is_allowed, found))
    if not addresses:
        raise codes.blocked() if found else _not_found()
    return addresses


def _addresses(name: str) -> list[str]:
    """The name's addresses, each once. Raises socket.gaierror, OSError, UnicodeError.

    IPv4 is asked for first: "no such name" holds for every kind of address (RFC 8020), so a name that does not exist
    costs one query and not two. Name servers commonly bound how many they answer a second.
    """
    if "." not in name.rstrip("."):  # the system's own: hosts file, search list
        return _of_family(name, socket.AF_UNSPEC)
    four: list[str] = []
    try:
        four = _of_family(name, socket.AF_INET)
    except socket.gaierror as problem:
        # EAI_NODATA: the name is there, without an IPv4 address.
        is_elsewhere = problem.errno != socket.EAI_NONAME or _is_in_hosts_file(name)
        if problem.errno not in _NOT_FOUND or not is_elsewhere:
            raise
    try:
        return list(dict.fromkeys([*four, *_of_family(name, socket.AF_INET6)]))
    except socket.gaierror:
        if four:
            return four
        raise


def _of_family(name: str, family: int) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)]


def _is_in_hosts_file(name: str) -> bool:
    # It may list a name with an IPv6 address only, and to the C library that is "no such name" for IPv4.
    try:
        return name.rstrip(".").lower() in HOSTS_FILE.read_text(errors="replace").lower().split()
    except OSError:
        return False


def _is_reserved(name: str) -> bool:
    # Names under these never exist in the DNS, and resolvers are not to be asked (RFC 6761, RFC 7686).
    return name.rstrip(".").rpartition(".")[2] in ("invalid", "onion")


def _not_found() -> FetchError:
    return codes.error("dns_not_found", "The host's name does not exist or has no address.")


def _in_trouble() -> FetchError:
    return codes.error("dns_error", "The host's name could not be looked up: the name server is in trouble.")
