"""Hosts, a chapter of ``make bench``, in short: two work, a third is cut off in mid-job and comes back; no times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import network

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def programs() -> None:
    subprocess.run([PROJECT / "testbed" / "install.sh", "bench"], check=True, timeout=250)


@pytest.mark.skipif(bool(network.why_not()), reason=f"no network namespaces here: {network.why_not()}")
def test_a_host_that_is_cut_off_costs_no_image_and_works_on_when_it_is_back(programs: None, tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    argv = [sys.executable, "-m", "bench", "--short", "--chapters", "hosts", "--output", str(page)]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=280)

    # 0 stands for much: it ends with 1 where an image is lost or done twice, or the audit finds something.
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is as it must be" in done.stderr
    text = page.read_text()
    assert "every image done once" in text
    assert "back, it works on" in text
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert "-core" not in left
