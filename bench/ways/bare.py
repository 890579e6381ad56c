"""Way (c): the bare loops of ``bench.bare``, two processes with half of the images each."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import rivals
from bench.bare import GO
from bench.costs import Meter, peak_mb
from bench.runs import HOST, WORKERS, Run
from bench.servers import BenchError, Servers
from testbed.processes import PROJECT, Process, wait_for

PROCESSES = 2
SLOTS, DOWNLOADS = 500, 64  # of each process, as those of a worker that ships
START_SECONDS = 60.0
SECONDS_AN_IMAGE = 0.05


@dataclass(frozen=True)
class Client:
    """A program that takes the arguments of ``bench.bare``, and the Python that runs it."""

    name: str
    program: Path = PROJECT / "bench" / "bare.py"
    python: Path = Path(sys.executable)


PYCURL = Client("pycurl")
AIOHTTP = Client("aiohttp", PROJECT / "bench" / "bare_aiohttp.py", rivals.program("python"))


def measure(
    servers: Servers, urls: Sequence[str], perimeter: int, pause: tuple[float, float], *, client: Client = PYCURL
) -> Run:
    """All ``urls`` once, connections warm. Raises BenchError for a wrong sum of perimeters."""
    with ExitStack() as stack:
        loops = [
            stack.enter_context(_loop(servers, place, urls[place::PROCESSES], pause, client))
            for place in range(PROCESSES)
        ]
        for loop in loops:
            _wait_for_lines(loop, 1, START_SECONDS)
        meter = Meter({WORKERS: [loop.pid for loop in loops], HOST: [servers.host.pid]})
        for loop in loops:
            loop.signal(GO)
        for loop in loops:
            _wait_for_lines(loop, 2, START_SECONDS + SECONDS_AN_IMAGE * len(urls))
        spent = meter.read()
        answers = [json.loads(loop.text.splitlines()[-1]) for loop in loops]
        if (found := sum(answer["perimeter"] for answer in answers)) != perimeter:
            raise BenchError(f"the bare loop's perimeters sum up to {found} instead of {perimeter}")
        seconds = max(answer["seconds"] for answer in answers)
        return Run(len(urls), seconds, spent, max(peak_mb(loop.pid) for loop in loops), spent.busy)


def _loop(servers: Servers, place: int, urls: Sequence[str], pause: tuple[float, float], client: Client) -> Process:
    file, log = servers.folder / f"bare{place}.urls", servers.folder / f"bare{place}.log"
    file.write_text("\n".join(urls))
    log.unlink(missing_ok=True)
    argv: list[str | Path] = [client.python, client.program, file, "--slots", str(SLOTS), "--downloads", str(DOWNLOADS)]
    argv += ["--pause", *map(str, pause), "--ca", servers.authorities]
    return Process(argv, log=log)


def _wait_for_lines(loop: Process, lines: int, seconds: float) -> None:
    wait_for(lambda: loop.text.count("\n") >= lines or not loop.is_alive, seconds, what="the bare loop", every=0.02)
    if not loop.is_alive:
        raise BenchError(f"the bare loop ended:\n{loop.text[-2000:]}")
