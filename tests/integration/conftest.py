"""Real workers for the tests of this folder: processes that die with the test."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from flask import Flask
from PIL import Image

from app import broker, processors
from app.extensions import db
from app.processors import contract
from demo.host import Host
from testbed import processes
from testbed.processes import Process
from tests.conftest import Backend
from tests.odd.table import ODD


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``good0.jpg`` to ``good4.jpg`` of 64x48 pixels, a PNG of 30x20, a page and a cut file that are no images."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(5):
        Image.new("RGB", (64, 48), (40 * number, 90, 90)).save(folder / f"good{number}.jpg")
    Image.new("L", (30, 20)).save(folder / "small.png")
    (folder / "page.jpg").write_text("<html><body>moved</body></html>")
    (folder / "cut.jpg").write_bytes((folder / "good0.jpg").read_bytes()[:20])
    return folder


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doors of this test know the odd processors too."""
    monkeypatch.setattr(processors, "BY_NAME", contract.by_name((*processors.REGISTERED, *ODD)))


@pytest.fixture
def host(photos: Path) -> Iterator[Host]:
    with Host(photos) as running:
        yield running


@pytest.fixture
def worker_env(backend: Backend) -> dict[str, str]:
    return {
        "DATABASE_URL": backend.database_url,
        "REDIS_URL": backend.redis_url or broker.celery_url("", backend.data_dir),
        "DATA_DIR": str(backend.data_dir),
        "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
        "GPU_PAUSE_MIN_SECONDS": "0.05",
        "GPU_PAUSE_MAX_SECONDS": "0.1",
        "LEASE_SECONDS": "4",
        "RECOVER_SECONDS": "0.5",
        "RETRY_BASE_SECONDS": "0.1",
    }


@pytest.fixture
def start_worker(worker_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a worker process, with settings of its own where given."""
    started: list[Process] = []
    numbers = itertools.count(1)

    def start(module: str = "celery_worker", cwd: Path = processes.PROJECT, **settings: str) -> Process:
        name = f"w{next(numbers)}"
        log = tmp_path / f"{name}.log"
        started.append(processes.worker(worker_env | settings, log, name=name, module=module, cwd=cwd))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def recover(worker_env: dict[str, str], tmp_path: Path) -> Iterator[Process]:
    with processes.recover(worker_env, tmp_path / "recover.log") as process:
        yield process


@pytest.fixture
def cut_commit(app: Flask, backend: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lose the connection at the next COMMIT, either before the server has it or before its answer arrives."""

    def cut(*, after: bool) -> list[str]:
        cuts: list[str] = []
        with app.app_context():
            dialect = db.engine.dialect
        commit = dialect.do_commit

        def do_commit(connection: Any) -> None:
            if cuts:
                return commit(connection)
            cuts.append("cut")
            if after:
                commit(connection)
            if backend.name == "sqlite":
                raise sqlite3.OperationalError("database is locked")
            raise pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")

        monkeypatch.setattr(dialect, "do_commit", do_commit)
        return cuts

    return cut
