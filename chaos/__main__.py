"""``python -m chaos``: SEED, IMAGES and KILLS choose the run, SEEDS how many seeds in a row; exits with 1 if something
is lost, doubled or stuck."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from chaos.plan import TIMES, Fault, Plan
from chaos.run import Report, run


def main() -> int:
    kills = _number("KILLS", TIMES[Fault.KILL_WORKER])
    plan = Plan(
        seed=_number("SEED", 1),
        images=_number("IMAGES", Plan.images),
        times=TIMES | {Fault.KILL_WORKER: kills},
    )
    reports = []
    try:
        for seed in range(plan.seed, plan.seed + _number("SEEDS", 1)):
            reports.append(_run(replace(plan, seed=seed)))
    except KeyboardInterrupt:
        return 130
    if len(reports) > 1:
        print(summary(reports))
    return 1 if any(report.problems for report in reports) else 0


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name) or default)


def _run(plan: Plan) -> Report:
    print(f"seed {plan.seed}: one job of {plan.images} images, {plan.workers} workers, {plan.lease_seconds:g} s leases")
    report = run(plan)
    print(table(report), end="\n\n", flush=True)
    return report


def summary(reports: list[Report]) -> str:
    """A line a seed, as Markdown."""
    lines = [
        "| seed | faults | seconds | longest recovery | longest standstill | downloaded again | refused "
        "| oldest unwritten | wrong |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        recovery = max((blow.recovery_seconds or 0 for blow in report.blows), default=0)
        lines.append(
            f"| {report.plan.seed} | {len(report.blows)} | {report.seconds:.0f} | {recovery:.1f} s "
            f"| {report.longest_pause_seconds:.1f} s | {report.redone} | {report.refused} "
            f"| {report.unwritten_seconds:.2f} s | {'; '.join(report.problems) or 'nothing'} |"
        )
    return "\n".join(lines)


def table(report: Report) -> str:
    """What was done, and what came of it."""
    lines = [f"{'fault':32}{'times':>6}{'longest recovery':>18}{'downloaded again':>18}"]
    for fault, times in report.plan.times.items():
        blows = [blow for blow in report.blows if blow.fault is fault]
        longest = max((blow.recovery_seconds or 0 for blow in blows), default=0)
        redone = sum(blow.redone for blow in blows)
        lines.append(f"{fault:32}{len(blows):3} of{times:3}{longest:14.1f} s {redone:17}")
    lines += [
        "",
        f"The job took {report.seconds:.0f} s; the longest time without a new result was "
        f"{report.longest_pause_seconds:.1f} s.",
        f"{report.redone} downloads were repeated, {report.unexplained} of them for no fault that is known here; "
        f"results were refused {report.refused} times since their claim was an old one.",
        f"The oldest result that a killed worker had not written yet was {max(0, report.unwritten_seconds):.2f} s old "
        f"({report.kills_alone} kills that no other fault was near).",
        *(f"WRONG: {problem}" for problem in report.problems),
    ]
    if not report.problems:
        lines.append(f"Every one of {report.plan.images} images has one result, and the books balance.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
