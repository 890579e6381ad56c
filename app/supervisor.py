"""Runs named commands as children: prints what they print behind their names, starts them again when they die, stops
them in order, and leaves none behind.

Each child has a session of its own, so that a terminal's Ctrl-C reaches the supervisor only, which then stops them.
A child that dies takes what is left of its process group with it: half a web server is none.
"""

from __future__ import annotations

import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from app.children import Child, Command, Limits, labels
from app.lifelines import Watchdog

__all__ = ["KILLED_AT_ONCE", "Command", "Limits", "Supervisor"]

KILLED_AT_ONCE = 130  # what a shell reports for a program ended by Ctrl-C
# Programs that pass a Ctrl-C on to us make two of one: the second counts as another only after this.
SAME_KEYSTROKE_SECONDS = 0.5


class Supervisor:
    """Call ``run`` from the main thread, once."""

    def __init__(self, commands: Sequence[Command], limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        names = labels([command.name for command in commands])
        self._children = [
            Child(command, self._limits, label=label) for command, label in zip(commands, names, strict=True)
        ]
        self._selector = selectors.DefaultSelector()
        self._stop_deadline: float | None = None
        self._interrupted_at: float | None = None
        self._is_cut_short = False

    def run(self) -> int:
        """Run until SIGINT, SIGTERM or SIGHUP, or until no child is left that would be started again.

        Returns 0, or 130 where a second Ctrl-C cut the orderly stop short.
        """
        watchdog = Watchdog()
        with _signals(self._take_signal, self._selector):
            try:
                while self._step(watchdog):
                    pass
            finally:
                for child in self._children:
                    if child.is_alive:
                        child.reap(watchdog)
                watchdog.close()
        self._selector.close()
        return KILLED_AT_ONCE if self._is_cut_short else 0

    def _step(self, watchdog: Watchdog) -> bool:
        """Start or stop what is due, wait until something happens, deal with it. False when all is done."""
        now = time.monotonic()
        if self._stop_deadline is None:
            self._start_due(now, watchdog)
        else:
            self._stop(now, self._stop_deadline)
        for key, _ in self._selector.select(self._pause(now)):
            key.data()
        for child in self._children:
            if child.has_ended():
                child.reap(watchdog)
                if self._stop_deadline is None:
                    child.plan_restart()
        return any(map(self._is_wanted, self._children))

    def _is_wanted(self, child: Child) -> bool:
        return child.is_alive or (self._stop_deadline is None and child.due_at is not None)

    def _start_due(self, now: float, watchdog: Watchdog) -> None:
        for child in self._children:
            if child.is_due(now):
                child.start(self._selector, watchdog)

    def _stop(self, now: float, deadline: float) -> None:
        """Ask the lowest stage that still lives to end; past the deadline, or cut short, kill all."""
        alive = [child for child in self._children if child.is_alive]
        stage = min((child.command.stop_stage for child in alive), default=0)
        for child in alive:
            if self._is_cut_short or now >= deadline:
                child.kill()
            elif child.command.stop_stage == stage:
                child.terminate()

    def _pause(self, now: float) -> float | None:
        """Seconds until something is due; signals, output and deaths end the wait earlier."""
        if not any(map(self._is_wanted, self._children)):
            return 0.0
        if self._stop_deadline is not None:
            # Past it all are killed, and only their deaths are waited for.
            return self._stop_deadline - now if now < self._stop_deadline else None
        due = [child.due_at - now for child in self._children if child.due_at is not None]
        return max(min(due), 0.0) if due else None

    def _take_signal(self, number: int) -> None:
        now = time.monotonic()
        if self._stop_deadline is None:
            self._stop_deadline = now + self._limits.stop_seconds
        if number == signal.SIGINT:
            if self._interrupted_at is None:
                self._interrupted_at = now
            elif now - self._interrupted_at > SAME_KEYSTROKE_SECONDS:
                self._is_cut_short = True


@contextmanager
def _signals(take: Callable[[int], None], selector: selectors.BaseSelector) -> Iterator[None]:
    """Have the selector wake up for signals and dead children; ``take`` is called between two waits, never in one."""
    ours, pythons = socket.socketpair()
    ours.setblocking(False)
    pythons.setblocking(False)

    def read() -> None:
        for number in ours.recv(4096):
            if number != signal.SIGCHLD:
                take(number)

    selector.register(ours, selectors.EVENT_READ, read)
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means to go on without the terminal
        numbers.append(signal.SIGHUP)
    # The handlers do nothing: what counts is the byte that Python writes for each signal that has a handler.
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    descriptor = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        selector.unregister(ours)
        ours.close()
        pythons.close()
