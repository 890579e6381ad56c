"""``python -m soak``: MINUTES (60) long, RATE images a second (by default half of what it can by all doors), a fault
every FAULT_SECONDS (60). Writes build/soak.svg, soak.md, the samples as soak.csv, and what the parts have logged; exits
with 1 if something is wrong."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from soak.load import Load
from soak.plot import svg
from soak.scene import DATABASE, Faults, Scene
from soak.watch import Watch

BUILD = Path(__file__).resolve().parents[1] / "build"
CALIBRATION_IMAGES = 5000
CALIBRATION_SECONDS = 30.0
DRAIN_SECONDS = 180.0
LOOK_SECONDS = 2.0
OPEN = (
    "SELECT (SELECT COUNT(*) FROM jobs WHERE state = 'ongoing'),"
    " (SELECT COUNT(*) FROM deliveries WHERE state = 'pending')"
)


@dataclass
class Report:
    minutes: float
    rate: float
    faults: list[tuple[float, str]]
    load: Load
    watch: Watch
    problems: list[str]

    @property
    def title(self) -> str:
        """How long at which rate. Clients wait for their answers, so they may bring fewer images than they were to."""
        brought = self.load.images / (60 * self.minutes)
        return f"{self.minutes:g} minutes at {brought:.0f} images a second ({self.rate:.0f} asked for)"


def run(
    minutes: float,
    rate: float | None,
    fault_seconds: float,
    *,
    build: Path | None = None,
    expects_no_growth: bool = True,
) -> Report:
    """``build`` gets soak.csv as it runs, and what the parts have logged."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imagejobs-soak-")))
        scene = Scene(folder)
        stack.callback(scene.mariadb.close)
        stack.callback(scene.redis.close)
        if build is not None:
            stack.callback(_keep_logs, folder, build)
        samples = stack.enter_context((build / "soak.csv").open("w")) if build is not None else None
        scene.start(stack)
        if rate is None:
            rate = _capacity(scene) / 2
            print(f"half of what it can by all doors: {rate:.0f} images a second", flush=True)
        load, watch, faults = Load(scene, rate), Watch(scene, samples), Faults(scene, fault_seconds)
        begun = time.monotonic()
        load.start()
        try:
            while time.monotonic() - begun < 60 * minutes:
                _step(scene, watch, faults)
            # Clients that wait for what was taken away would wait for ever.
            while not faults.is_quiet:
                _step(scene, watch, faults, is_over=True)
        finally:
            load.stop()
        problems = _drain(scene, faults) + load.failures[:10]
        if audit := scene.audit():
            problems.append(audit)
        problems += [*_wrong_jobs(scene, load), *scene.deaths.values()]
        if expects_no_growth:
            problems += watch.grown()
        struck = [(at - begun, name) for at, name in faults.struck]
        return Report(minutes, rate, struck, load, watch, problems)


def _keep_logs(folder: Path, build: Path) -> None:
    for log in folder.glob("*.log"):
        shutil.copy(log, build / f"soak-{log.name}")


def _step(scene: Scene, watch: Watch | None, faults: Faults, *, is_over: bool = False) -> None:
    until = time.monotonic() + LOOK_SECONDS
    while time.monotonic() < until:
        faults.do_due(is_over=is_over)
        scene.tend()
        time.sleep(0.1)
    _take_results(scene)
    if watch is not None:
        watch.look()


def _take_results(scene: Scene) -> None:
    """The consumer of the lists, which else would fill up and hold their writers back."""
    try:
        with scene.redis.client() as client:
            client.delete("queue:images", "queue:batch")
    except OSError:
        pass
    except Exception as error:  # Redis was killed on purpose
        if "Redis" not in type(error).__module__ and "redis" not in type(error).__module__:
            raise


def _capacity(scene: Scene) -> float:
    """Images a second by all doors, where clients bring as many as it can of URLs alone: more than it can of these."""
    load = Load(scene, _capacity_of_urls(scene))
    begun = time.monotonic()
    load.start()
    try:
        time.sleep(CALIBRATION_SECONDS)
    finally:
        load.stop()
    deadline = time.monotonic() + DRAIN_SECONDS
    while any(scene.mariadb.execute(OPEN, database=DATABASE)[0]) and time.monotonic() < deadline:
        time.sleep(0.1)
    if load.failures:
        raise RuntimeError(f"the load by all doors, before any fault: {load.failures[:3]}")
    return load.images / (time.monotonic() - begun)


def _capacity_of_urls(scene: Scene) -> float:
    """Images a second of one large job."""
    load = Load(scene, 1)
    with scene.session() as session:
        begun = time.monotonic()
        job = load.submit_urls(session, CALIBRATION_IMAGES)
        while session.get(f"{scene.front.url}/api/status?jobid={job}", timeout=30).json()["status"] == "ongoing":
            time.sleep(0.1)
    return CALIBRATION_IMAGES / (time.monotonic() - begun)


def _drain(scene: Scene, faults: Faults) -> list[str]:
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        _step(scene, None, faults, is_over=True)
        if faults.is_quiet and not any(scene.mariadb.execute(OPEN, database=DATABASE)[0]):
            return []
    return [f"jobs were still open, or webhooks not sent, {DRAIN_SECONDS:g} s after the last job was submitted"]


def _wrong_jobs(scene: Scene, load: Load) -> list[str]:
    """Every job that was accepted is there once, with all its images done, and whoever subscribed was told."""
    rows = scene.mariadb.execute("SELECT id, state, images_done, images_total FROM jobs", database=DATABASE)
    found = {row[0]: row[1:] for row in rows}
    wrong = [f"job {job} is {found.get(job)}" for job in load.jobs if found.get(job, ("", 0, 1))[0] != "completed"]
    others = Counter(state for state, *_ in found.values())
    if set(others) - {"completed", "cancelled"} or others["cancelled"] > load.broken_off:
        wrong.append(f"jobs by state: {dict(others)}, where {load.broken_off} answers that waited for theirs broke off")
    if len(set(load.jobs)) != len(load.jobs):
        wrong.append("a job's number was given out twice")
    told = {message.json["data"]["job_id"] for message in scene.receiver.messages}
    if untold := set(load.jobs) - told:
        wrong.append(f"nobody was told of {len(untold)} jobs, {sorted(untold)[:5]} among them")
    return wrong[:10]


def summary(report: Report) -> str:
    growth = [
        f"| {part} | {early:.0f} | {late:.0f} | {unit} |"
        for (part, unit), (early, late) in sorted(report.watch.growth().items())
    ]
    faults: dict[str, int] = {}
    for _, name in report.faults:
        faults[name] = faults.get(name, 0) + 1
    answers = ", ".join(f"{name}: {count}" for name, count in sorted(report.load.answers.items()))
    return "\n".join(
        [
            f"{report.title}: {len(report.load.jobs)} jobs,"
            f" {report.load.images} images, {len(report.faults)} faults"
            f" ({', '.join(f'{name} {count}' for name, count in faults.items())}).",
            f"The longest that a client tried until its job was accepted: {report.load.longest_wait:.1f} s.",
            "",
            "| part | early | late | |",
            "|---|---|---|---|",
            *growth,
            "",
            f"Answers: {answers}",
            "",
            *(f"WRONG: {problem}" for problem in report.problems),
            *([] if report.problems else ["Every accepted job is completed, and the books balance."]),
            "",
        ]
    )


def main() -> int:
    rate = os.environ.get("RATE")
    minutes, fault_seconds = float(os.environ.get("MINUTES") or 60), float(os.environ.get("FAULT_SECONDS") or 60)
    BUILD.mkdir(exist_ok=True)
    report = run(minutes, float(rate) if rate else None, fault_seconds, build=BUILD)
    (BUILD / "soak.md").write_text(summary(report))
    title = f"{report.title}, a fault every {fault_seconds:g} s"
    (BUILD / "soak.svg").write_text(svg(report.watch.samples, report.faults, title))
    print(summary(report))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
