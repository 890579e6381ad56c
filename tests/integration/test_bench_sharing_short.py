"""Jobs beside each other, a chapter of ``make bench``, in short: every job ends as it should, the books balance."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def programs() -> None:
    subprocess.run([PROJECT / "testbed" / "install.sh", "bench"], check=True, timeout=250)


def test_short_form_runs_jobs_side_by_side_and_audits_them(programs: None, tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    argv = [sys.executable, "-m", "bench", "--short", "--chapters", "beside", "--output", str(page)]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=280)

    # 0 stands for much: it ends with 1 where a job does not end as it should or the audit finds something.
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is as it must be" in done.stderr
    text = page.read_text()
    for what in (
        "a job of 1 image",
        "different owners",
        "one priority more",
        "host that hangs",
        "old jobs are deleted",
    ):
        assert re.search(rf"^\|.*{what}.*\| (met|\*\*missed\*\*) \|$", text, re.MULTILINE), text
    assert "{'timeout': 30}" in text
    assert "{'dns_not_found': 30}" in text or "left out" in done.stderr
