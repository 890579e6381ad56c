"""What every throwaway server has in common: a folder and a port of its own, a log, a beginning and several ends."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.processes import Process, free_port, wait_for

# Debian keeps servers in sbin, which is not on every user's PATH.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


class Server:
    """One server process on a free port of 127.0.0.1; subclasses say how it is started and when it answers.

    What it holds lives in ``folder`` and survives ``kill`` and ``stop``; ``start`` brings it back on the same port;
    ``close`` removes the folder.
    """

    kind: str
    start_seconds = 20.0

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"imagejobs-{self.kind.lower()}-"))
        self.port = free_port()
        self._process: Process

    def _command(self, argv: Sequence[str]) -> None:
        """What ``start`` runs, in the folder."""
        self._process = Process(argv, log=self.folder / "server.log", cwd=self.folder)

    def _is_answering(self) -> bool:
        """Whether it does its work by now."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start it and wait until it answers; raises RuntimeError with the end of its log if it ends instead."""
        self._process.start()
        self._has_started()
        wait_for(self._answers, self.start_seconds, what=f"{self.kind} in {self.folder}")
        return self

    def _has_started(self) -> None:
        """The process is there; it may not answer yet."""

    def _answers(self) -> bool:
        if not self._process.is_alive:
            raise RuntimeError(f"{self.kind} ended at once:\n{self.text[-2000:]}")
        return self._is_answering()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def text(self) -> str:
        """The server's log."""
        return self._process.text

    def stop(self) -> None:
        """An orderly shutdown."""
        self._process.stop()

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It accepts connections and never answers: worse for a client than being away."""
        self._process.freeze()

    def thaw(self) -> None:
        self._process.thaw()

    def close(self) -> None:
        """End the server and remove its folder. A second call is harmless."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def program(name: str, *, of: str = "testbed/install.sh installs it", also_in: Path | None = None) -> str:
    """Where the program is; raises RuntimeError that says how to get it."""
    path = os.pathsep.join([str(also_in), PATH]) if also_in else PATH
    found = shutil.which(name, path=path)
    if found is None:
        raise RuntimeError(f"{name} is not installed; {of}")
    return found
