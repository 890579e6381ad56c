"""Processors added as the documentation says, and as that of the service before says; in a copy, by a real worker."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image as Picture

from demo.host import Host
from testbed.processes import PROJECT, Process, wait_for
from tests.integration.hands import add_stores, body, visit

# Word for word from the README of the service that knew this interface first.
MY_TASK = """\
from PIL import Image


NAME = "My New Task"

def execute(img_obj):
    image = Image.open(img_obj)
    return {"width": image.width, "height": image.height}
"""
SUBMIT = "import sys; from app import create_app; client = create_app().test_client(); "
SUBMIT += "print(client.post('/api/submit/', data=sys.argv[1]).text)"


def documented() -> str:
    """The module that docs/extending.md shows."""
    text = (PROJECT / "docs/extending.md").read_text()
    [found] = re.findall(r"```python\n# app/processors/brightness.py\n(.*?)```", text, re.DOTALL)
    assert len(found.strip().splitlines()) <= 10
    return str(found)


def register(init: Path, *modules: str) -> None:
    """As the documentation says: one line to import each, one line in REGISTERED."""
    text = init.read_text()
    names = "".join(f"    {module},\n" for module in modules)
    for place in ("from app.processors import (\n", "REGISTERED = (\n"):
        assert text.count(place) == 1
        text = text.replace(place, place + names)
    init.write_text(text)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_processors_are_added_as_the_documentation_says(
    app: Flask,
    client: FlaskClient,
    worker_env: dict[str, str],
    start_worker: Callable[..., Process],
    tmp_path: Path,
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(PROJECT / "app", copy / "app", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("config.py", "celery_worker.py"):
        shutil.copy(PROJECT / name, copy)
    (copy / "app/processors/brightness.py").write_text(documented())
    (copy / "app/processors/my_task.py").write_text(MY_TASK)
    register(copy / "app/processors/__init__.py", "brightness", "my_task")

    add_stores(app)
    start_worker(cwd=copy)
    Picture.new("L", (64, 48), 90).save(tmp_path / "grey.png")
    with Host(tmp_path) as host:
        sent = json.dumps(body(visit(images=[f"{host.url}/grey.png"]), processors=["brightness", "My New Task"]))
        argv = [sys.executable, "-c", SUBMIT, sent]
        answer = subprocess.run(argv, cwd=copy, env=worker_env, capture_output=True, text=True, timeout=60)
        job_id = json.loads(answer.stdout)["job_id"]
        address = f"/api/jobs/{job_id}"
        wait_for(lambda: client.get(address).json["status"] != "ongoing", 60, what="the end of the job")
    [image] = client.get(f"{address}/images").json["results"]
    assert all(entry.pop("seconds") >= 0 for entry in image["results"].values())
    assert image["results"] == {
        "brightness": {"version": "1", "result": {"mean": 90.0}},
        "My New Task": {"version": "1", "result": {"width": 64, "height": 48}},
    }
