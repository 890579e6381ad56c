"""The storage as the service knows it: what /health and `imagejobs doctor` say, and whether all hosts see the same."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask

from app.cli import main
from app.domain import doctor, sharing
from app.domain.doctor import Level
from app.errors import OtherStorageError
from app.extensions import storage
from tests.conftest import Backend
from tests.integration import photos


def upload(app: Flask) -> Any:
    return app.test_client().post("/upload_image_batch", json=[photos.item()])


def said(app: Flask) -> list[tuple[Level, str]]:
    with app.app_context():
        return [(answer.level, answer.sentence) for answer in doctor.examine() if answer.about == "storage"]


@pytest.fixture
def make_host(make_app: Callable[..., Flask], tmp_path: Path) -> Callable[[str], Flask]:
    return lambda folder: make_app(STORAGE_URL=(tmp_path / folder).as_uri())


@pytest.fixture
def app(make_host: Callable[[str], Flask]) -> Flask:
    return make_host("shared")


def test_a_storage_that_cannot_be_used_is_said_and_stops_no_job_by_url(
    make_host: Callable[[str], Flask], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    app = make_host("file/files")
    answer = app.test_client().get("/health")
    assert (answer.status_code, answer.json) == (200, {"status": "degraded", "storage": "down"})
    [(level, sentence)] = said(app)
    assert level is Level.BAD
    assert str(tmp_path / "file" / "files") in sentence


def test_hosts_with_one_storage_both_use_it(make_host: Callable[[str], Flask]) -> None:
    assert [upload(make_host("shared")).status_code for _ in range(2)] == [200, 200]
    assert (Level.FINE, "its files are those that the other hosts see") in said(make_host("shared"))


def test_a_host_with_another_storage_stores_nothing(make_host: Callable[[str], Flask], tmp_path: Path) -> None:
    assert upload(make_host("shared")).status_code == 200
    other = make_host("local")
    answer = upload(other)
    assert answer.status_code == 503
    assert "is not the storage that it was begun with" in answer.json["error"]
    assert not list((tmp_path / "local").rglob("*.jpg"))
    assert said(other)[-1][0] is Level.BAD
    with other.app_context(), pytest.raises(OtherStorageError):
        sharing.check_at_start()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_worker_with_another_storage_does_not_start(
    make_host: Callable[[str], Flask], start_worker: Callable[..., Any], tmp_path: Path
) -> None:
    upload(make_host("shared"))
    worker = start_worker(STORAGE_URL=(tmp_path / "local").as_uri())
    assert worker.wait(60) == 1
    assert "This host does not see the files of the service" in worker.text


def test_of_two_hosts_that_are_the_first_at_once_one_wins(make_host: Callable[[str], Flask]) -> None:
    hosts = [make_host("one"), make_host("two")]
    statuses: list[int] = []
    start = threading.Barrier(2)

    def first(app: Flask) -> None:
        start.wait()
        statuses.append(upload(app).status_code)

    threads = [threading.Thread(target=first, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 503]


@pytest.mark.parametrize("after", [False, True])
def test_a_lost_commit_marks_the_storage_once(app: Flask, cut_commit: Callable[..., list[str]], after: bool) -> None:
    cuts = cut_commit(after=after)
    with app.app_context():
        assert not sharing.check()
        sharing.expect()
        assert sharing.check()
        assert len(list(storage.list(sharing.PREFIX))) == 1
    assert cuts == ["cut"]


def test_files_that_were_moved_bring_their_mark_and_others_are_adopted(
    make_host: Callable[[str], Flask], backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(make_host("old"))
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    assert upload(make_host("new")).status_code == 200
    assert upload(make_host("empty")).status_code == 503
    for name, value in {
        "DATABASE_URL": backend.database_url,
        "DATA_DIR": str(backend.data_dir),
        "STORAGE_URL": (tmp_path / "empty").as_uri(),
    }.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(main, ["adopt-storage"])
    assert (done.exit_code, done.stdout) == (0, "this storage is the service's from now on\n")
    assert upload(make_host("empty")).status_code == 200
