"""The commands that README.md and docs/api.md print for the doors that take files, run as they are printed."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import processes
from tests.integration import hands

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

PROJECT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A curl that says what was answered: as printed it shows the body alone.
CURL = """#!/bin/sh
exec {program} -sS --write-out '\\n%{{http_code}}\\n' "$@"
"""


@pytest.fixture
def port() -> int:
    return processes.free_port()


@pytest.fixture
def run(
    app: Any, worker_env: dict[str, str], start_worker: Callable[..., object], tmp_path: Path, port: int
) -> Iterator[Callable[[str], list[tuple[int, str]]]]:
    """Run the commands in one block; the status and the body of each answer."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("there is no curl here")
    hands.add_stores(app)
    # Of the service that `make run` starts, the folder of manifests lies where it was started.
    env = worker_env | {"STORAGE_URL": (tmp_path / "files").as_uri(), "MANIFEST_DIR": str(tmp_path / "var/manifests")}
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "curl").write_text(CURL.format(program=program))
    (programs / "curl").chmod(stat.S_IRWXU)
    start_worker(STORAGE_URL=env["STORAGE_URL"])

    def run_block(block: str) -> list[tuple[int, str]]:
        text = block.replace("localhost:5000", f"localhost:{port}")
        path = f"{programs}:/usr/bin:/bin"
        done = subprocess.run(
            ["bash", "-euc", text], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return [(int(status), body) for body, status in re.findall(r"(.*?)\n(\d{3})\n", done.stdout, re.DOTALL)]

    with processes.web(env, tmp_path / "web.log", port=port):
        yield run_block


def blocks(page: str, holding: str) -> list[str]:
    found = [block for block in BLOCK.findall((PROJECT / page).read_text()) if holding in block]
    assert found, f"{page} prints no command with {holding}"
    return found


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_manifests(run: Callable[[str], list[tuple[int, str]]], page: str) -> None:
    answers = [answer for block in blocks(page, "/api/v1/") for answer in run(block)]
    assert {status for status, _ in answers} == {200}
    *waited_for, listed, batched = [json.loads(body) for _, body in answers]
    # Neither the host of the first nor that of the second is there.
    assert {entry["error"] for found in waited_for for entry in found.values()} == {"Image could not be requested."}
    assert [list(found) for found in waited_for] == ([["0"]] if page == "README.md" else [["0", "1"]] * 2)
    assert listed["ok"] == batched["ok"] == "Processing Images"


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_batches(run: Callable[[str], list[tuple[int, str]]], page: str) -> None:
    answers = [answer for block in blocks(page, "upload_image_batch") for answer in run(block)]
    if page == "docs/api.md":
        answers += [answer for block in blocks(page, "/image_batches") for answer in run(block)]
    assert {status for status, _ in answers} == {200}
    assert json.loads(answers[0][1])["success"] is True
    assert all(len(json.loads(body)) == 1 for _, body in answers[1:])
    assert len(answers) >= 2


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_single_images(run: Callable[[str], list[tuple[int, str]]], page: str) -> None:
    answers = [answer for block in blocks(page, "localhost:5000/images") for answer in run(block)]
    assert {status for status, _ in answers} <= {200, 202}
    first = json.loads(answers[0][1])
    assert first["result"]["Average Pixel Value"] == 0
    assert first["result"]["errors"] == {}
    if page == "docs/api.md":
        assert [status for status, _ in answers] == [200, 200, 202, 200, 200]
        assert len(json.loads(answers[-1][1])) == 3


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_uploads(run: Callable[[str], list[tuple[int, str]]], page: str, port: int) -> None:
    ((_, uploaded), (_, handed_in)) = answers = run(blocks(page, "/process_redis")[0])
    assert {status for status, _ in answers} == {200}
    assert json.loads(uploaded)["stored"] == (1 if page == "README.md" else 2)
    results = json.loads(handed_in)["results"]
    command = f"curl -o results.zip '{results}'\n"
    processes.wait_for(lambda: run(command)[0][0] == 200, 60, what="the results", every=0.5)
