"""AUTH=open on a real web server: what it says at its start, and that no proxy passes for this host."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from testbed.nginx import Front
from testbed.processes import Process, wait_for
from tests.conftest import Backend


@pytest.fixture
def serve(embedded: Backend, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    shutil.copy(embedded.data_dir / "empty.db", tmp_path / "imagejobs.db")
    started: list[Process] = []

    def start(bind: str, **settings: str) -> Process:
        argv = [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "--bind", bind]
        environment = {"DATA_DIR": str(tmp_path)} | settings
        started.append(Process(argv, env=environment, log=tmp_path / "web.log").start())
        return started[-1]

    yield start
    for process in started:
        process.kill()


def test_it_says_so_and_refuses_what_comes_by_a_proxy(serve: Callable[..., Process], tmp_path: Path) -> None:
    place = tmp_path / "web.sock"
    web = serve(f"unix:{place}")
    wait_for(lambda: place.exists() and "AUTH=" in web.text, 60, what="gunicorn's start")
    assert "AUTH=open: requests from this host are served and need no key, all others are refused" in web.text
    (tmp_path / "files").mkdir()
    with Front(f"unix:{place}", files=tmp_path / "files", body_max="1m") as front, requests.Session() as session:
        session.trust_env = False
        session.verify = str(front.certificate)
        for path in ("/api/jobs", "/live", "/dashboard/"):
            answer = session.get(f"{front.url}{path}", timeout=30)
            assert answer.status_code == 403, answer.text
        assert "AUTH=open" in session.get(f"{front.url}/api/jobs", timeout=30).json()["error"]


def test_a_host_that_others_reach_stops_the_start(serve: Callable[..., Process]) -> None:
    web = serve("127.0.0.1:0", HOST="0.0.0.0")
    wait_for(lambda: not web.is_alive, 60, what="gunicorn's end")
    assert "set AUTH=keys" in web.text
