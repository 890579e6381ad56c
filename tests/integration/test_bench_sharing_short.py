"""``python -m bench.sharing`` in its short form: every job ends as it should and the books balance; no times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def programs() -> None:
    subprocess.run([PROJECT / "testbed" / "install.sh", "bench"], check=True, timeout=250)


def test_short_form_runs_jobs_side_by_side_and_audits_them(programs: None) -> None:
    argv = [sys.executable, "-m", "bench.sharing", "--short"]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=280)

    # 0 stands for much: it ends with 1 where a job does not end as it should or the audit finds something.
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is as it must be" in done.stderr
    for what in (
        "a job of 1 image",
        "different owners",
        "one priority more",
        "host that hangs",
        "old jobs are deleted",
    ):
        assert any(what in line for line in done.stdout.splitlines()), done.stdout
    assert "{'timeout': 30}" in done.stdout
    assert "{'dns_not_found': 30}" in done.stdout or "left out" in done.stderr
