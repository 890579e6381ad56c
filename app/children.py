"""One child of the supervisor: the process that runs a command now, what it prints, and when it starts again."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from app.lifelines import Watchdog, die_with_parent

MOST_LINE_BYTES = 64 * 1024
_COLOURS = (36, 33, 35, 32, 34, 31)


@dataclass(frozen=True)
class Command:
    """What to run under a name. ``env`` is added to our environment, ``pass_fds`` are descriptors that the child
    inherits. The lowest ``stop_stage`` is stopped first, the next one when nothing of it is left."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    is_restarted: bool = True
    stop_stage: int = 0
    pass_fds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Limits:
    """The pause before a dead child starts again doubles from ``first`` to ``most`` and is ``first`` again once it
    lived for ``reset``; all children together have ``stop_seconds`` to end on SIGTERM before SIGKILL."""

    backoff_first_seconds: float = 1.0
    backoff_most_seconds: float = 30.0
    backoff_reset_seconds: float = 60.0
    stop_seconds: float = 35.0


class Child:
    """A command and its process, which leads a session and so a process group of its own."""

    def __init__(self, command: Command, limits: Limits, *, label: str) -> None:
        self.command = command
        self.due_at: float | None = 0.0
        self._limits = limits
        self._label = label.encode()
        self._pause = limits.backoff_first_seconds
        self._started_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._output: _Output | None = None
        self._is_terminated = False

    @property
    def is_alive(self) -> bool:
        """Whether there is a process that was not waited for."""
        return self._process is not None

    def is_due(self, now: float) -> bool:
        return self.due_at is not None and now >= self.due_at

    def start(self, selector: selectors.BaseSelector, watchdog: Watchdog) -> None:
        self.due_at, self._started_at = None, time.monotonic()
        try:
            self._process = subprocess.Popen(
                self.command.argv,
                env=os.environ | self.command.env,
                cwd=self.command.cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=self.command.pass_fds,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            self._say(f"cannot be started: {error}")
            self.plan_restart()
            return
        watchdog.watch(self._process.pid)
        assert self._process.stdout is not None
        self._output = _Output(self._process.stdout, self._label, selector)

    def has_ended(self) -> bool:
        """Whether the process has died; it is not waited for, so that its number stays its own."""
        if self._process is None:
            return False
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def reap(self, watchdog: Watchdog) -> None:
        """Kill what is left of the group, print the last lines, forget the process."""
        assert self._process is not None and self._output is not None
        self.kill()
        self._output.close()
        watchdog.forget(self._process.pid)
        code = self._process.wait()
        if not self._is_terminated:
            self._say(f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}")
        self._process, self._output, self._is_terminated = None, None, False

    def plan_restart(self) -> None:
        if not self.command.is_restarted:
            return
        now = time.monotonic()
        if now - self._started_at >= self._limits.backoff_reset_seconds:
            self._pause = self._limits.backoff_first_seconds
        self.due_at = now + self._pause
        self._say(f"starts again in {self._pause:g} s")
        self._pause = min(self._pause * 2, self._limits.backoff_most_seconds)

    def terminate(self) -> None:
        """Ask it to end. A second call does nothing: to some programs a second SIGTERM means to drop everything."""
        if not self._is_terminated:
            self._is_terminated = True
            self._signal(signal.SIGTERM, os.kill)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        self._signal(signal.SIGKILL, os.killpg)

    def _signal(self, number: signal.Signals, send: Callable[[int, int], None]) -> None:
        if self._process is None:
            return
        try:
            send(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS answers the latter for a group of zombies
            pass

    def _say(self, line: str) -> None:
        _print(self._label, line.encode())


class _Output:
    """The pipe that a child prints to; prints its whole lines behind the child's label as they come."""

    def __init__(self, pipe: IO[bytes], label: bytes, selector: selectors.BaseSelector) -> None:
        self._pipe = pipe
        self._label = label
        self._rest = b""
        self._selector = selector
        os.set_blocking(pipe.fileno(), False)
        selector.register(pipe, selectors.EVENT_READ, self._read)
        self._is_open = True

    def _read(self) -> bool:
        """Read once; False when there is nothing to be had."""
        try:
            data = os.read(self._pipe.fileno(), MOST_LINE_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._end()
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MOST_LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            _print(self._label, line)
        return True

    def _end(self) -> None:
        if self._is_open:
            self._is_open = False
            self._selector.unregister(self._pipe)

    def close(self) -> None:
        """Print what is still in the pipe; does not wait for others who may hold it open."""
        while self._is_open and self._read():
            pass
        self._end()
        if self._rest:
            _print(self._label, self._rest)
        self._pipe.close()


def _print(label: bytes, line: bytes) -> None:
    """Bytes as they are: what a child prints need not be text."""
    try:
        sys.stdout.buffer.write(label + line + b"\n")
        sys.stdout.buffer.flush()
    except OSError:
        # Whoever read our output went away; that is no reason to end the service, nor to fail at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def labels(names: Sequence[str]) -> list[str]:
    """``name | `` for each name, of one width, in colour where somebody looks at it."""
    width = max(map(len, names), default=0)
    plain = [f"{name:<{width}} | " for name in names]
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return plain
    return [f"\x1b[{_COLOURS[index % len(_COLOURS)]}m{label}\x1b[0m" for index, label in enumerate(plain)]
