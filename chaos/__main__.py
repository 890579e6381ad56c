"""``python -m chaos``: SEED, IMAGES and KILLS choose the run; exits with 1 if something is lost, doubled or stuck."""

from __future__ import annotations

import os
import sys

from chaos.plan import TIMES, Fault, Plan
from chaos.run import Report, run


def main() -> int:
    kills = int(os.environ.get("KILLS") or TIMES[Fault.KILL_WORKER])
    plan = Plan(
        seed=int(os.environ.get("SEED") or 1),
        images=int(os.environ.get("IMAGES") or Plan.images),
        times=TIMES | {Fault.KILL_WORKER: kills},
    )
    print(f"seed {plan.seed}: one job of {plan.images} images, {plan.workers} workers, {plan.lease_seconds:g} s leases")
    try:
        report = run(plan)
    except KeyboardInterrupt:
        return 130
    print(table(report))
    return 1 if report.problems else 0


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
        *(f"WRONG: {problem}" for problem in report.problems),
    ]
    if not report.problems:
        lines.append(f"Every one of {report.plan.images} images has one result, and the books balance.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
