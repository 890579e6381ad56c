"""Seed 002's wish: doors as independent services, each with a web server, a worker and a queue, behind one gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from demo.host import Host
from testbed import processes
from testbed.nginx import Front
from testbed.processes import PROJECT, Process, free_port, wait_for
from tests.conftest import Backend

DOORS = ("urls", "manifests")
STORES = "AreaCode,StoreName,StoreID\n710006,BHARAT STORE,S00339218\n"


@dataclass
class Gateway:
    url: str
    client: requests.Session
    webs: dict[str, str]  # address by door
    workers: dict[str, Process]

    def submit(self, host: Host) -> int:
        body = {"count": 1, "visits": [{"store_id": "S00339218", "visit_time": 0, "image_url": [good(host)]}]}
        answer = self.client.post(f"{self.url}/api/submit/", json=body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["job_id"])

    def post_manifest(self, host: Host) -> int:
        files = {"file": ("a.tsv", f"id\turl\n0\t{good(host)}\n")}
        answer = self.client.post(f"{self.url}/api/v1/images_info_async/", files=files)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["job_id"])

    def status(self, job: int) -> Any:
        return self.client.get(f"{self.url}/api/status?jobid={job}").json()

    def wait_for(self, job: int) -> None:
        wait_for(lambda: self.status(job)["status"] == "completed", 60, what=f"job {job}")


def good(host: Host) -> str:
    return f"{host.url}/good0.jpg"


@pytest.fixture
def gateway(servers: Backend, worker_env: dict[str, str], tmp_path: Path) -> Iterator[Gateway]:
    """Two doors are served; nobody serves the others."""
    env = worker_env | {"AUTH": "keys", "TRUSTED_PROXIES": "127.0.0.1", "SECRET_KEY": "x" * 32}
    (tmp_path / "stores.csv").write_text(STORES)
    _run(env, "db_create.py", "--stores", str(tmp_path / "stores.csv"))
    key = _run(env, "-m", "app.cli", "keys", "create", "--scope", "admin")
    with ExitStack() as stack:
        webs, workers = {}, {}
        for door in DOORS:
            port = free_port()
            web = processes.web(env | {"WEB_DOORS": door}, tmp_path / f"web-{door}.log", port=port)
            stack.callback(web.kill)
            webs[door] = f"127.0.0.1:{port}"
            log = tmp_path / f"worker-{door}.log"
            workers[door] = processes.worker(env | {"WORKER_SOURCES": door}, log, name=door)
            stack.callback(workers[door].kill)
        front = stack.enter_context(Front(webs["urls"], files=tmp_path, doors=webs))
        client = stack.enter_context(requests.Session())
        client.trust_env, client.verify = False, str(front.certificate)
        client.headers["Authorization"] = f"Bearer {key}"
        yield Gateway(front.url, client, webs, workers)


def _run(env: dict[str, str], *argv: str) -> str:
    done = subprocess.run(
        [sys.executable, *argv], cwd=PROJECT, env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_each_door_is_a_service_of_its_own_behind_one_address(app: Any, gateway: Gateway, host: Host) -> None:
    client, url = gateway.client, gateway.url
    by_url, by_manifest = gateway.submit(host), gateway.post_manifest(host)
    for job in (by_url, by_manifest):
        gateway.wait_for(job)
    # A door that nobody serves is not there, and neither is one that another web server serves.
    for path in ("/images", "/upload", "/image_batches?page=1&per_page=1"):
        answer = client.get(f"{url}{path}")
        assert (answer.status_code, answer.json()) == (404, {"error": "no such address"})
    other = client.post(f"http://{gateway.webs['urls']}/api/v1/images_info_async/", files={"file": b""})
    assert (other.status_code, other.json()) == (404, {"error": "no such address"})
    # What they have in common is any web server's: states of both doors' jobs, pages, keys.
    for web in gateway.webs.values():
        assert client.get(f"http://{web}/api/status?jobid={by_manifest}").json()["status"] == "completed"
        assert client.get(f"http://{web}/dashboard").status_code == 200
    assert requests.get(f"{url}/api/jobs", verify=client.verify, timeout=10).status_code == 401

    # One stops: its jobs are taken and wait, the other's are not held up.
    gateway.workers["manifests"].stop()
    waiting, done = gateway.post_manifest(host), gateway.submit(host)
    gateway.wait_for(done)
    assert gateway.status(waiting)["status"] == "ongoing"
