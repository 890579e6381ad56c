"""What ties a child's life to its parent's, however the parent ends.

Two ties, since neither is enough alone: the kernel's (Linux only) reaches a child but not the child's own children; the
watchdog, this file run as a program of its own, sees its input close when the parent is gone and then kills whole
process groups, on macOS too.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1
# Loaded beforehand: between fork and exec no module may be imported.
_LIBC = ctypes.CDLL(None)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send ``number`` to this process when the thread that started it ends.

    Of use as ``preexec_fn`` of a child that is started from the main thread. Does nothing outside Linux.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


class Watchdog:
    """A process that kills the registered process groups once this process is gone without having said goodbye."""

    def __init__(self) -> None:
        # A session of its own, so that a terminal's Ctrl-C does not reach it; no site packages: it starts in 20 ms.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, start_new_session=True
        )

    def watch(self, group: int) -> None:
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Call it before the group's leader is waited for: after that its number may be somebody else's."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            # Somebody killed the watchdog. The kernel's tie still holds.
            pass


def _watch() -> None:
    """The watchdog itself: read ``+GROUP`` and ``-GROUP`` lines to their end, then kill the groups that are left."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass


if __name__ == "__main__":
    _watch()
