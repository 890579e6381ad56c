"""The door: URLs go in, bodies and errors come out, hundreds at once on one thread.

::

    add -> (lookup) -> a host's queue -> a transfer -> poll's answer
                            ^------- redirect ---'
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import certifi

from app.errors import FetchError
from app.fetching import codes, urls
from app.fetching.addresses import AddressGuard
from app.fetching.budgets import Budget
from app.fetching.hosts import Host, Hosts, Verdict
from app.fetching.limits import FetchLimits
from app.fetching.resolver import Answer, Resolver
from app.fetching.results import Fetched, HeldBack, Look
from app.fetching.transfers import Transfer
from app.fetching.urls import Target
from app.fetching.wires import Wires

TICK_SECONDS = 0.25

_LITERAL = Answer()

Result = Fetched | FetchError | HeldBack


class _Download:
    """One URL on its way; ``spent`` are the seconds of lookups and transfers so far."""

    __slots__ = ("key", "look", "redirects", "spent", "target")

    def __init__(self, key: Any, target: Target, look: Look | None) -> None:
        self.key = key
        self.target = target
        self.look = look
        self.redirects = 0
        self.spent = 0.0


class Downloads:
    """Everything belongs to the calling thread, except ``wake``, which any thread may call."""

    def __init__(self, limits: FetchLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ValueError for an allowed network that is none, OSError for a CA bundle that cannot be read."""
        self._limits = limits
        self._clock = clock
        self._guard = AddressGuard(limits.allowed_networks)
        self._ca_file, self._is_ca_file_ours = _gather_authorities(limits.ca_bundle)
        self._budget = Budget(max(limits.max_bytes_in_flight, limits.max_bytes))
        self._wires = Wires(connections=2 * limits.downloads)
        self._hosts = Hosts(limits.downloads, clock)
        self._resolver = Resolver(
            threads=limits.dns_threads,
            timeout_seconds=min(limits.dns_timeout_seconds, limits.timeout_seconds),
            cache_seconds=limits.dns_cache_seconds,
            cache_names=limits.dns_cache_names,
            is_allowed=self._guard.is_allowed,
            on_answer=self._wires.wake,
            clock=clock,
        )
        self._looking_up: dict[str, set[Host]] = {}  # hosts by the name that they wait for
        self._free: list[Transfer] = []
        self._running: set[Transfer] = set()
        self._done: list[tuple[Any, Result]] = []
        self._tick_at = 0.0
        self._is_woken = False

    @property
    def active(self) -> int:
        """Transfers on the wire."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Everything that was added and neither runs nor was returned by ``poll``."""
        return self._hosts.queued + len(self._done)

    @property
    def ready(self) -> int:
        """Those that start as soon as a transfer is free, those whose names are being looked up included."""
        return self._hosts.ready + min(self._resolver.pending, self._limits.dns_threads) + len(self._done)

    @property
    def held(self) -> int:
        """Those that wait behind their own host's cap or for a name that waits for its lookup."""
        return max(0, self.waiting - self.ready)

    def add(self, key: Hashable, url: str, look: Look | None = None) -> None:
        """Queue a URL; whatever becomes of it, ``poll`` tells, once.

        Where ``look`` makes something of the beginning of the body, the rest is read and counted but not kept.
        """
        try:
            target = urls.parse(url, self._limits.max_url_bytes)
        except FetchError as error:
            self._done.append((key, error))
            return
        self._enqueue(_Download(key, target, look))

    def poll(self, timeout: float) -> list[tuple[Any, Result]]:
        """Drive the transfers for at most ``timeout`` seconds; returns sooner, once something has finished."""
        end = self._clock() + timeout
        self._advance()
        while True:
            wait = 0.0 if self._done or self._is_woken else min(end - self._clock(), TICK_SECONDS)
            for curl, code in self._wires.drive(wait):
                self._settle(curl.transfer, code)
            self._advance()
            if self._done or self._is_woken or self._clock() >= end:
                break
        self._is_woken = False
        done, self._done = self._done, []
        return done

    def wake(self) -> None:
        """Make the present or the next ``poll`` return at once."""
        self._is_woken = True
        self._wires.wake()

    def forget(self, predicate: Callable[[Any], bool]) -> list[Any]:
        """Drop the queued URLs whose keys ``predicate`` names; returns their keys. What is on the wire goes on."""
        return [download.key for download in self._hosts.forget(lambda download: predicate(download.key))]

    def close(self) -> None:
        """Drop everything, the running transfers too. A second call is harmless."""
        for transfer in self._running:
            self._wires.remove(transfer.curl)
        for transfer in [*self._running, *self._free]:
            transfer.close()
        self._running.clear()
        self._free.clear()
        self._resolver.close()
        self._wires.close()
        if self._is_ca_file_ours:
            self._ca_file.unlink(missing_ok=True)

    def _enqueue(self, download: _Download, *, is_first: bool = False) -> None:
        origin = download.target.origin
        answer = None if origin.is_literal else self._resolver.find(origin.host)
        if answer and answer.error:
            self._done.append((download.key, answer.error))
            return
        host = self._hosts.find(origin)
        self._hosts.add(host, download, is_first=is_first)
        if not origin.is_literal and not answer and host.is_reachable and host.queue:
            self._look_up(host)

    def _look_up(self, host: Host) -> None:
        name = host.key.host
        self._hosts.set_reachable(host, False)
        self._looking_up.setdefault(name, set()).add(host)
        self._resolver.ask(name)

    def _advance(self) -> None:
        for name, answer in self._resolver.collect():
            self._take_answer(name, answer)
        if self._clock() >= self._tick_at:
            self._tick()
        self._budget.resume()
        while (taken := self._hosts.take()) is not None:
            self._start(*taken)
        for download, reason in self._hosts.take_rejected():
            self._done.append((download.key, HeldBack(reason) if isinstance(reason, float) else reason))

    def _tick(self) -> None:
        self._tick_at = self._clock() + TICK_SECONDS
        for name, answer in self._resolver.give_up_late():
            self._take_answer(name, answer)
        self._hosts.sweep()

    def _take_answer(self, name: str, answer: Answer) -> None:
        for host in self._looking_up.pop(name, ()):
            for download in host.queue:
                download.spent += answer.seconds
            if answer.error:
                self._done.extend((download.key, answer.error) for download in self._hosts.drain(host))
            self._hosts.set_reachable(host, True)

    def _start(self, host: Host, download: _Download) -> None:
        """Put a download that ``Hosts.take`` gave out on the wire, unless its name must be looked up again."""
        origin = download.target.origin
        answer = _LITERAL if origin.is_literal else self._resolver.find(origin.host)
        if answer is None:
            self._hosts.put_back(host, download)
            self._look_up(host)
            return
        seconds = self._limits.timeout_seconds - download.spent
        error = answer.error or (
            codes.error("timeout", "The lookups and redirects took too long.") if seconds <= 0 else None
        )
        if error:
            self._hosts.finish(host, Verdict.NEUTRAL)
            self._done.append((download.key, error))
            return
        transfer = self._free.pop() if self._free else self._new_transfer()
        transfer.begin(download.target, answer.addresses, seconds, download.look)
        transfer.owner = (host, download)
        transfer.started_at = self._clock()
        self._wires.add(transfer.curl)
        self._running.add(transfer)

    def _new_transfer(self) -> Transfer:
        return Transfer(self._limits, self._guard, self._budget, self._ca_file, on_socket=self._wires.forget)

    def _settle(self, transfer: Transfer, code: int) -> None:
        """Take a transfer that has ended off the wire; the download is done or goes on to where it was redirected."""
        host, download = transfer.owner
        self._wires.remove(transfer.curl)
        self._running.discard(transfer)
        download.spent += self._clock() - transfer.started_at
        outcome = transfer.conclude(download.target, code)
        self._hosts.finish(host, *_judge(outcome, transfer.status))
        if isinstance(outcome, Target):
            self._redirect(download, outcome)
        elif isinstance(outcome, FetchError):
            self._done.append((download.key, outcome))
        else:
            seen = transfer.seen
            fetched = Fetched(download.key, outcome, transfer.size, download.spent, transfer.status, seen)
            self._done.append((download.key, fetched))
        transfer.clear()
        self._free.append(transfer)

    def _redirect(self, download: _Download, target: Target) -> None:
        download.redirects += 1
        if download.redirects > self._limits.max_redirects:
            message = f"The host redirected more than {self._limits.max_redirects} times."
            self._done.append((download.key, codes.error("too_many_redirects", message)))
            return
        download.target = target
        self._enqueue(download, is_first=True)


def _judge(outcome: bytes | Target | FetchError, status: int) -> tuple[Verdict, str]:
    """What an outcome says of its host; an answer that is about the one image only is a good sign."""
    if not isinstance(outcome, FetchError):
        return Verdict.GOOD, ""
    if codes.find(outcome.code).is_host_fault:
        return Verdict.BAD, outcome.code
    return (Verdict.GOOD if status and outcome.code != "truncated" else Verdict.NEUTRAL), outcome.code


def _gather_authorities(own: str | None) -> tuple[Path, bool]:
    """The file of trusted authorities: the public ones and a company's own; True where it is ours to delete."""
    public = Path(certifi.where())
    if own is None:
        return public, False
    both = public.read_bytes() + b"\n" + Path(own).read_bytes()
    with tempfile.NamedTemporaryFile(prefix="imagejobs-ca-", suffix=".pem", delete=False) as file:
        file.write(both)
    return Path(file.name), True
