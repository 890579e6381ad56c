"""The commands of docs/first-steps.md, in a shell, one after the other, against a real service."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from demo.host import Host
from testbed import processes
from testbed.processes import PROJECT
from tests.integration import hands
from tests.integration.test_workers import wait_until_settled

PAGE = PROJECT / "docs/first-steps.md"
INDEX = PROJECT / "docs/README.md"
COMMANDS = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def port(app: Flask, worker_env: dict[str, str], tmp_path: Path, start_worker: Callable[..., Any]) -> Iterator[int]:
    hands.add_stores(app)
    number = processes.free_port()
    start_worker()
    with processes.web(worker_env, tmp_path / "web.log", port=number):
        yield number


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_they_do_what_the_page_says(
    client: FlaskClient, host: Host, port: int, worker_env: dict[str, str], tmp_path: Path
) -> None:
    said = []
    for block in COMMANDS:
        # This service instead of the one at port 5000, a host on this machine instead of one in the world.
        script = block.replace("localhost:5000", f"localhost:{port}").replace(".venv/bin/imagejobs", "imagejobs")
        script = script.replace("https://www.python.org/static/img/python-logo.png", f"{host.url}/good1.jpg")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = os.environ | worker_env | {"IMAGEJOBS_URL": f"http://localhost:{port}", "PATH": path}
        done = subprocess.run(
            ["bash", "-euc", script], env=env, cwd=PROJECT, capture_output=True, text=True, check=False
        )
        said.append(done.stdout)
        assert done.returncode == 0 or "doctor" in script, (script, done.stdout, done.stderr)
        wait_until_settled(client, 1)
    submitted, status, images, visits, client_said, doctor = said
    assert json.loads(submitted) == {"job_id": 1}
    assert json.loads(status)["status"] == "completed"
    assert '"state":"done"' in images
    first, rest = json.JSONDecoder().raw_decode(visits)
    assert first["results"][0]["data"] == [
        {"date": "2020-09-02T00:00:53Z", "perimeter": 224, "images": 1, "average_seconds": pytest.approx(1, abs=60)}
    ]
    assert len(list(csv.reader(io.StringIO(visits[rest:].strip())))) == 2
    assert "S00339218" in client_said
    assert "workers" in doctor


def test_the_index_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", INDEX.read_text()))
    assert linked == {page.name for page in INDEX.parent.glob("*.md")} - {INDEX.name}
