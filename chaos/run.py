"""The run: one job, its faults, and what is wrong afterwards."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from chaos import scene as scenes
from chaos.blows import Blow, Blows, oldest_unwritten_seconds
from chaos.plan import Plan
from chaos.scene import Scene

STEP_SECONDS = 0.1
LOOK_SECONDS = 0.25
# Two faults at the same moment would be one for those who look at their effects.
LEAST_GAP_SECONDS = 0.5
# After the end: for workers that were frozen to wake up and try to write what is no longer theirs.
LAST_WORDS_SECONDS = 4.0
PERIMETER = 2 * (64 + 48)


@dataclass
class Report:
    plan: Plan
    blows: list[Blow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    longest_pause_seconds: float = 0.0
    refused: int = 0  # results that came under an old claim
    redone: int = 0
    unexplained: int = 0
    unwritten_seconds: float = 0.0  # age of the oldest result that a kill met unwritten, other faults apart
    kills_alone: int = 0  # kills of which that is known


def run(plan: Plan, *, is_quiet: bool = False) -> Report:
    """Start the service, do everything to it that the plan says, and look at what is left."""
    with scenes.running(plan) as scene:
        trial = _Trial(scene, is_quiet=is_quiet)
        trial.until_closed()
        trial.until_quiet()
        return trial.report()


class _Trial:
    def __init__(self, scene: Scene, *, is_quiet: bool) -> None:
        self._scene = scene
        self._plan = scene.plan
        self._is_quiet = is_quiet
        self._blows = Blows(scene, self._plan.seed)
        self._schedule = self._plan.schedule()
        self._job_id = scene.submit()
        self._started_at = self._moved_at = self._looked_at = time.monotonic()
        self._struck_at = 0.0
        self._settled = 0
        self._state = "ongoing"
        self._longest_pause = 0.0

    def until_closed(self) -> None:
        while self._state == "ongoing" and time.monotonic() - self._started_at < self._plan.most_seconds:
            self._step()
            self._strike_if_due()

    def until_quiet(self) -> None:
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        while not self._blows.is_over or time.monotonic() < deadline:
            self._step()

    def _step(self) -> None:
        time.sleep(STEP_SECONDS)
        for worker in self._scene.workers:
            worker.tend()
        self._blows.do_due()
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._look()

    def _look(self) -> None:
        status = self._scene.status(self._job_id)
        self._looked_at = now = time.monotonic()
        if status is None:
            return
        settled = status["images"]["total"] - status["images"]["open"]
        if settled > self._settled:
            self._longest_pause = max(self._longest_pause, now - self._moved_at)
            self._settled, self._moved_at = settled, now
        self._state = status["status"]
        self._blows.look(self._settled)

    def _strike_if_due(self) -> None:
        is_soon = time.monotonic() - self._struck_at < LEAST_GAP_SECONDS
        if is_soon or not self._schedule or self._schedule[0][0] > self._settled:
            return
        for place, (point, fault) in enumerate(self._schedule):
            if point <= self._settled and self._blows.can(fault):
                del self._schedule[place]
                self._say(f"{self._settled:6} of {self._plan.images}: {fault}")
                self._blows.strike(fault, self._settled)
                self._struck_at = time.monotonic()
                return

    def _say(self, line: str) -> None:
        if not self._is_quiet:
            print(f"{time.monotonic() - self._started_at:5.0f} s {line}", file=sys.stderr, flush=True)

    def report(self) -> Report:
        times = _downloads(self._scene)
        downloads = Counter({image: len(asked) for image, asked in times.items()})
        alone = [blow for blow in self._blows.struck if blow.is_alone]
        unwritten = max((oldest_unwritten_seconds(blow, times) for blow in alone), default=0.0)
        return Report(
            plan=self._plan,
            blows=self._blows.struck,
            seconds=self._moved_at - self._started_at,
            longest_pause_seconds=self._longest_pause,
            refused=_refused(self._scene),
            redone=downloads.total() - len(downloads),
            unexplained=self._blows.explain(downloads),
            unwritten_seconds=unwritten,
            kills_alone=len(alone),
            problems=self._problems(downloads),
        )

    def _problems(self, downloads: Counter[int]) -> list[str]:
        """What must not be, as sentences."""
        images, problems = self._plan.images, []
        if self._state != "completed":
            problems.append(f"the job is {self._state} with {self._settled} of {images} images settled")
        if left := len(self._schedule):
            problems.append(f"{left} faults were not tried: the job was too short")
        if missing := images - len(downloads):
            problems.append(f"{missing} images were never downloaded")
        for what, query, expected in (
            ("images are done", "SELECT COUNT(*) FROM images WHERE state = 'done' AND settled_at IS NOT NULL", images),
            ("images are counted as done", "SELECT SUM(images_done) FROM jobs", images),
            ("is the sum of all visits", "SELECT SUM(perimeter) FROM visits", images * PERIMETER),
        ):
            found = (self._scene.find(query) or [(None,)])[0][0]
            if found != expected:
                problems.append(f"{found} {what}, {expected} should be")
        stuck = [blow.fault for blow in self._blows.struck if blow.recovery_seconds is None]
        if stuck:
            problems.append(f"{len(stuck)} faults were not seen to be made good, the first: {stuck[0]}")
        if found := self._scene.audit():
            problems.append(f"audit: {found}")
        return problems


def _downloads(scene: Scene) -> dict[int, list[float]]:
    """When each image was asked for, by its number."""
    paths = {path.removeprefix("/").removesuffix(".jpg"): times for path, times in scene.host.times().items()}
    return {int(number): times for number, times in paths.items() if number.isdigit()}


def _refused(scene: Scene) -> int:
    return sum(worker.process.text.count("results refused") for worker in scene.workers)
