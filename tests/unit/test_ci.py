"""The workflow for a public host: of the schema of such files, and naming what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[2]
WORKFLOW = PROJECT / ".github/workflows/ci.yml"
JOBS = yaml.safe_load(WORKFLOW.read_text())["jobs"]


def test_it_is_a_workflow() -> None:
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_runs_commands_that_there_are() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    commands = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
    assert [command.split()[:2] for command in commands] == [["make", "test"], ["make", "coverage"]]
    assert {command.split()[1] for command in commands} <= targets


def test_an_image_is_published_for_a_tag_only_and_after_the_tests() -> None:
    image = JOBS["image"]
    assert image["needs"] == "test"
    [build] = [step for step in image["steps"] if step.get("uses", "").startswith("docker/build-push-action")]
    assert build["with"]["push"] == "${{ startsWith(github.ref, 'refs/tags/v') }}"
    assert (PROJECT / build["with"]["file"]).is_file()


def test_every_action_is_of_a_named_version_and_no_job_may_write_but_to_packages() -> None:
    for job in JOBS.values():
        assert all(re.search(r"@v\d+$", step["uses"]) for step in job["steps"] if "uses" in step)
        assert set(job.get("permissions", {}).items()) <= {("contents", "read"), ("packages", "write")}
