"""The first chapter of ``make bench`` in short: the run is sound; how fast it was is nobody's business here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
WAYS = ("(a) the seed's loop", "(b) ours", "(c) bare limit", "(b) ours, no pause", "(c) bare limit, no pause")


@pytest.fixture(scope="module")
def programs() -> None:
    """MariaDB, Redis, and nginx, which no other test needs."""
    subprocess.run([PROJECT / "testbed" / "install.sh", "bench"], check=True, timeout=250)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a short path, which pytest's own has not: that of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="imagejobs-bench-") as folder:
        yield Path(folder)


def test_short_form_measures_every_way_and_writes_the_page(programs: None, tmp_path: Path, temporary: Path) -> None:
    page = tmp_path / "results.md"

    done = subprocess.run(
        [sys.executable, "-m", "bench", "--short", "--chapters", "images", "--output", str(page)],
        cwd=PROJECT,
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=280,
    )

    # 0 stands for much: it ends with 1 where a way fails, a sum of perimeters is wrong or a job's books do not balance.
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text()
    for way in WAYS:
        row = next(line for line in text.splitlines() if line.startswith(f"| {way} |"))
        assert re.search(r"\| [1-9][\d,.]* \(", row), row
    for question in ("1 images", "100,000 images", "2,000 | an area, a month", "2,000 | all stores, later pages"):
        assert re.search(rf"^\| {re.escape(question)} \| [\d.]+ / [\d.]+ \|$", text, re.MULTILINE), text
    for target in (
        "400 times (a)",
        "with the pause: at least 0.95 of the bare limit",
        "without it: at least 0.75 of the bare limit",
        "over HTTPS",
        "slots in use, from the first second",
        "memory of a worker process",
        "bare insert of its rows",
        "memory of the web process",
        "plus its pause",
        "times `/live`",
        "p95 at most 2 times",
        "of what bare sessions do on the same photos",
    ):
        assert re.search(rf"^\|.*{re.escape(target)}.*\| (met|\*\*missed\*\*) \|$", text, re.MULTILINE), text
    for way in (
        "(b) ours, HTTPS",
        "(c) bare limit, HTTPS",
        "bare pycurl, http, no pause",
        "bare pycurl, https, no pause",
    ):
        assert re.search(rf"^\| {re.escape(way)} \| [1-9]", text, re.MULTILINE), text
    assert (tmp_path / "slots.svg").read_text().startswith("<svg")
    assert "## What falls short, and why" in text
    assert "its figures mean nothing" in text
    assert list(temporary.iterdir()) == []
