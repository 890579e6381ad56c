"""``make chaos`` in short: one fault of each kind."""

from __future__ import annotations

from chaos.plan import Fault, Plan
from chaos.run import run


def test_job_comes_through_one_fault_of_each_kind() -> None:
    plan = Plan(images=1000, lease_seconds=3, frozen_seconds=5, away_seconds=1, times=dict.fromkeys(Fault, 1))
    report = run(plan, is_quiet=True)
    assert report.problems == []
    assert len(report.blows) == len(Fault)
