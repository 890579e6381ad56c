"""What each part of the service holds: memory, files, connections, read from /proc and from the database."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from redis import RedisError

from soak.scene import DATABASE, Scene

# Growth below these is noise of the allocator and of what is in flight at the moment.
LEAST = {"MB": 4.0, "files": 8.0, "connections": 4.0}
MOST_GROWTH = 0.05


@dataclass(frozen=True, slots=True)
class Sample:
    seconds: float
    part: str
    unit: str
    value: float


class Watch:
    """Every sample is also a line of ``file``, as it comes."""

    def __init__(self, scene: Scene, file: TextIO | None = None) -> None:
        self._scene = scene
        self._file = file
        self._begun = time.monotonic()
        self.samples: list[Sample] = []

    def look(self) -> None:
        now = time.monotonic() - self._begun
        parts = {name: process.pid for name, process in self._scene.parts.items() if process.is_alive}
        parts |= {"worker": self._scene.workers[0].process.pid, "nginx": self._scene.front.pid}
        children: list[int] = []
        for name, pid in parts.items():
            family = _family(pid)
            children += filter(_decodes, family)
            family = [each for each in family if each not in children]
            self._note(now, name, "MB", sum(map(_own_memory, family)) / 1e6)
            self._note(now, name, "files", sum(map(_open_files, family)))
        if children:
            # They come with work and go two minutes after it, so their number says nothing.
            self._note(now, "a decoder", "MB", statistics.mean(map(_own_memory, children)) / 1e6)
            self._note(now, "a decoder", "files", statistics.mean(map(_open_files, children)))
        rows = self._try_find("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
        if rows:
            self._note(now, "mariadb", "connections", float(rows[0][1]))
        if (clients := self._clients_of_redis()) is not None:
            self._note(now, "redis", "connections", clients)
        rows = self._try_find(
            "SELECT COALESCE(SUM(images_open), 0), COALESCE(SUM(images_total), 0) FROM jobs WHERE id > 0"
        )
        if rows:
            self._note(now, "jobs", "open images", float(rows[0][0]))
            self._note(now, "jobs", "settled images", float(rows[0][1] - rows[0][0]))

    def _note(self, seconds: float, part: str, unit: str, value: float) -> None:
        self.samples.append(Sample(seconds, part, unit, value))
        if self._file is not None:
            print(f"{seconds:.1f},{part},{unit},{value:.2f}", file=self._file, flush=True)

    def _try_find(self, statement: str) -> list[tuple[Any, ...]] | None:
        try:
            return self._scene.mariadb.execute(statement, database=DATABASE)
        except Exception:  # noqa: BLE001  # it was killed on purpose; the next look finds it again
            return None

    def _clients_of_redis(self) -> float | None:
        try:
            with self._scene.redis.client() as client:
                return float(client.info("clients")["connected_clients"])
        except RedisError:
            return None  # as above

    def growth(self) -> dict[tuple[str, str], tuple[float, float]]:
        """By part and unit: the median of the second fifth of the time, and that of the last."""
        end = max((sample.seconds for sample in self.samples), default=0.0)
        series: dict[tuple[str, str], list[Sample]] = {}
        for sample in self.samples:
            if sample.unit in LEAST:
                series.setdefault((sample.part, sample.unit), []).append(sample)
        found = {}
        for key, samples in series.items():
            early = [each.value for each in samples if 0.2 * end <= each.seconds < 0.4 * end]
            late = [each.value for each in samples if each.seconds >= 0.8 * end]
            if early and late:
                found[key] = (statistics.median(early), statistics.median(late))
        return found

    def grown(self) -> list[str]:
        return [
            f"{part} grew from {early:.0f} to {late:.0f} {unit}"
            for (part, unit), (early, late) in self.growth().items()
            if late - early > max(MOST_GROWTH * early, LEAST[unit])
        ]


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            tasks = list(Path(f"/proc/{parent}/task").iterdir())
            found += [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _decodes(pid: int) -> bool:
    try:
        return b"app.decoding.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _own_memory(pid: int) -> float:
    """Bytes that no file is behind: what is mapped of libraries is others' too, or not, as those come and go."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(1024.0 * int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
    except (OSError, ValueError):
        return 0.0


def _open_files(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0
