"""One child process as its parent sees it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from enum import Enum
from typing import Any

from app.decoding import wire
from app.decoding.options import NOTE_BYTES, WALL_FACTOR, ChildOptions
from app.errors import DecodeError
from app.processors.contract import Missing, Processor
from app.processors.running import Worked

START_SECONDS = 60.0
END_SECONDS = 5.0
# It limits itself; this is for one that cannot, since somebody has stopped it.
GRACE_SECONDS = 30.0


class NoChildError(Exception):
    """No child could be started; no image is to blame."""


class Cause(Enum):
    CRASH = "it died by itself"
    BUSY = "it had used up its processor time"
    LATE = "its time by the clock was over, computing or not"


class ChildDiedError(Exception):
    """The child died at work; the text says how, and at what."""

    def __init__(self, text: str, cause: Cause) -> None:
        super().__init__(text)
        self.cause = cause


class Child:
    """Belongs to one thread, and dies with it."""

    def __init__(self, options: ChildOptions) -> None:
        """Starts it, and waits until it is ready. Raises NoChildError."""
        self.images = 0
        self._options = options
        self._note = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the child
        self._link, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = self._start(theirs)
        except OSError as error:
            self._link.close()
            self._note.close()
            raise NoChildError(str(error)) from error
        self._stream = self._link.makefile("rb")
        self._link.settimeout(START_SECONDS)
        try:
            wire.receive(self._stream)
        except (EOFError, OSError) as error:
            code = self.end()
            raise NoChildError(f"it ended with {code} before it was ready") from error

    def _start(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        options = self._options
        limits = {
            "memory_megabytes": options.memory_megabytes,
            "timeout_seconds": options.timeout_seconds,
            "formats": options.formats,
            "max_pixels": options.max_pixels,
            "processors": {name: dict(values) for name, values in options.processors.items()},
        }
        arguments = [str(os.getpid()), json.dumps(limits), str(self._note.fileno())]
        paths = [path or os.getcwd() for path in sys.path]
        environment = {
            **options.environment,
            "PYTHONPATH": os.pathsep.join(paths),
            # One image at a time: threads of libraries would only take address space and each other's time.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "app.decoding.child", *arguments],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env=environment,
            pass_fds=(self._note.fileno(),),
            # A terminal's Ctrl-C is the worker's to hear, which still needs its children for what is in flight.
            start_new_session=True,
        )

    def work_on(self, bodies: Sequence[bytes], wanted: Sequence[Processor]) -> list[Worked | DecodeError]:
        """Raises ChildDiedError; the child is then gone."""
        steps = len(bodies) * (len(wanted) + 3)
        self._link.settimeout(steps * self._options.timeout_seconds * WALL_FACTOR + GRACE_SECONDS)
        request = {"processors": [_place(processor) for processor in wanted], "bodies": [len(body) for body in bodies]}
        try:
            wire.send(self._link, request, bodies)
            results = [_as_result(reply) for reply in wire.receive(self._stream)]
        except TimeoutError as error:
            raise self._death(-signal.SIGALRM) from error
        # What is no answer comes from a child whose memory a decoder has damaged: it is as good as dead.
        except (EOFError, OSError, ValueError, LookupError, TypeError) as error:
            raise self._death(self._exit_code()) from error
        self.images += len(bodies)
        return results

    def _death(self, code: int) -> ChildDiedError:
        step, seconds = self._noted(), self._options.timeout_seconds
        self.end()
        if code == -signal.SIGXCPU:
            return ChildDiedError(f"{seconds} s of {step}", Cause.BUSY)
        if code == -signal.SIGALRM:
            return ChildDiedError(f"{seconds * WALL_FACTOR} s of waiting for {step}", Cause.LATE)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return ChildDiedError(f"{how} at {step}", Cause.CRASH)

    def _noted(self) -> str:
        return os.pread(self._note.fileno(), NOTE_BYTES, 0).decode(errors="replace").strip() or "its start"

    def _exit_code(self) -> int:
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL

    def kill(self) -> None:
        """From any thread: the one that it belongs to sees it die."""
        self._process.kill()

    def end(self) -> int:
        """Kill it, wait for it, and return its exit code."""
        self._process.kill()
        code = self._process.wait()
        self._stream.close()
        self._link.close()
        self._note.close()
        return code


def _place(processor: Processor) -> tuple[str, str]:
    """Its name, and where the child finds it: nowhere, if it is missing here too."""
    module = "" if isinstance(processor, Missing) else getattr(processor, "__name__", "")
    return processor.NAME, module


def _as_result(reply: dict[str, Any]) -> Worked | DecodeError:
    if "code" in reply:
        return DecodeError(reply["code"], reply["message"])
    return Worked(reply["measures"], reply["results"])
