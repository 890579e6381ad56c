"""What processes cost, as the kernel counts it: CPU seconds, peak memory, and how busy the whole machine was."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1
# proc(5): fields of /proc/<pid>/stat behind the name in brackets, and of the first line of /proc/stat.
SESSION, USER_TIME, CHILDREN_SYSTEM_TIME = 3, 11, 14
USER, NICE, SYSTEM, INTERRUPTS, SOFT_INTERRUPTS = 0, 1, 2, 5, 6


@dataclass(frozen=True)
class Spent:
    """CPU seconds by part, those of all programs, and those of programs and kernel, within so many seconds."""

    parts: Mapping[str, float]
    programs: float
    machine: float
    seconds: float

    @property
    def busy(self) -> float:
        """The part of all cores that was busy, with anything."""
        return self.machine / (self.seconds * CORES)

    @property
    def others(self) -> float:
        """The part of all cores that was busy with programs which no part accounts for."""
        return max(0.0, self.programs - sum(self.parts.values())) / (self.seconds * CORES)


class Meter:
    """Counts from its creation on. A part is named by the leaders of its processes' sessions; children belong to it."""

    def __init__(self, parts: Mapping[str, Sequence[int]]) -> None:
        self._parts = parts
        self._from = self._read()

    def read(self) -> Spent:
        now = self._read()
        before = self._from
        return Spent(
            {name: now.parts[name] - before.parts[name] for name in self._parts},
            now.programs - before.programs,
            now.machine - before.machine,
            now.seconds - before.seconds,
        )

    def _read(self) -> Spent:
        by_session: dict[int, float] = {}
        for session, seconds in _processes():
            by_session[session] = by_session.get(session, 0.0) + seconds
        parts = {name: sum(by_session.get(pid, 0.0) for pid in pids) for name, pids in self._parts.items()}
        return Spent(parts, *_machine(), time.monotonic())


def _processes() -> Iterator[tuple[int, float]]:
    """Each process's session, and its CPU seconds with those of children that it has waited for."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        ticks = sum(map(int, fields[USER_TIME : CHILDREN_SYSTEM_TIME + 1]))
        yield int(fields[SESSION]), ticks / TICKS


def _machine() -> tuple[float, float]:
    """CPU seconds of all programs since the start of the machine, and of programs and kernel."""
    fields = [int(field) / TICKS for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    programs = fields[USER] + fields[NICE] + fields[SYSTEM]
    return programs, programs + fields[INTERRUPTS] + fields[SOFT_INTERRUPTS]


def resident_mb(leaders: Sequence[int]) -> float:
    """Memory in MB of all processes in the sessions of these, what they share counted once (proc(5), smaps_rollup)."""
    return sum(_proportional_kb(folder) for folder in Path("/proc").iterdir() if _is_in(folder, leaders)) * 1024 / 1e6


def _is_in(folder: Path, leaders: Sequence[int]) -> bool:
    try:
        return folder.name.isdigit() and os.getsid(int(folder.name)) in leaders
    except ProcessLookupError:
        return False


def _proportional_kb(folder: Path) -> int:
    lines = (folder / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def peak_mb(pid: int) -> float:
    """The most memory in MB (resident) that a process has had since its start."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return kilobytes * 1024 / 1e6
