"""Files that nobody names: what a crash leaves behind is found and removed, by the command and once a day."""

from __future__ import annotations

import io
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask import Flask

from app.cli import main
from app.domain import chores, orphans, submissions, unpacking, uploads
from app.storage import LocalStorage, new_key
from testbed import processes
from testbed.processes import wait_for
from tests.integration import hands, photos
from tests.integration.test_reports import build, settle

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files"


def names(files: Path) -> set[str]:
    return {stat.key for stat in LocalStorage(files).list("uploads")}


def make_old(files: Path, hours: float) -> None:
    """As if all that lies there had been written so long ago."""
    for path in files.rglob("*.jpg"):
        os.utime(path, (time.time() - 3600 * hours,) * 2)


def test_what_a_killed_web_process_left_is_removed_once_it_is_old(
    worker_env: dict[str, str], tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, env = processes.free_port(), worker_env | {"STORAGE_URL": files.as_uri()}
    item = json.dumps(photos.item(photos.image() + bytes(1_000_000))).encode()
    head = b"POST /upload_image_batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000\r\n\r\n["
    with (
        processes.web(env, tmp_path / "web.log", port=port) as web,
        socket.create_connection(("127.0.0.1", port), timeout=20) as client,
    ):
        client.sendall(head + item + b"," + item + b"," + item[:1000])
        wait_for(lambda: names(files), 20, what="a file")
        web.kill()
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    def find_orphans(*options: str) -> Result:
        done = CliRunner().invoke(main, ["orphans", *options])
        assert done.exit_code == 0, done.output
        return done

    left = names(files)
    assert left
    make_old(files, hours=23)
    assert find_orphans().stdout == "0 files, 0.0 MB\n"
    assert find_orphans("--remove").stdout == "0 files removed\n"
    make_old(files, hours=25)
    assert all(key in find_orphans().stdout for key in left)
    assert find_orphans("--remove").stdout == f"{len(left)} files removed\n"
    assert names(files) == set()


def test_the_daily_chores_remove_orphans_and_jobs_that_are_too_old(make_app: Callable[..., Flask], files: Path) -> None:
    app = make_app(STORAGE_URL=files.as_uri(), RETENTION_DAYS=1e-9)
    client = app.test_client()
    ended = client.post("/upload_image_batch", json=[photos.item()]).json["job_id"]
    hands.work_off(app)
    ongoing = client.post("/upload_image_batch", json=[photos.item()]).json["job_id"]
    LocalStorage(files).put(new_key("uploads", ".jpg"), b"nobody's")
    assert len(names(files)) == 3
    make_old(files, hours=25)
    with app.app_context():
        chores.do()
    assert client.get(f"/api/jobs/{ended}").status_code == 404
    assert client.get(f"/api/jobs/{ongoing}/images/0/file").status_code == 200
    assert len(names(files)) == 1


def test_orphans_are_found_below_every_prefix(make_app: Callable[..., Flask], files: Path) -> None:
    app = make_app(STORAGE_URL=files.as_uri())
    storage = LocalStorage(files)
    client = app.test_client()
    assert client.post("/upload_image_batch", json=[photos.item()]).status_code == 200
    with app.app_context():
        upload_id = uploads.new_id()
        uploads.add(upload_id, "a.jpg", io.BytesIO(photos.image()))
        uploads.hand_in(upload_id, "")
        while unpacking.open_next():
            pass
        settle(int(str(submissions.get(upload_id).upload.job_id)))
        build()
    prefixes = [path.name for path in files.iterdir() if not path.name.startswith(".")]
    named = {stat.key for prefix in prefixes for stat in storage.list(prefix)}
    assert {key.partition("/")[0] for key in named} == {"uploads", "submissions", "reports", "marks"}
    nobodys = {new_key(prefix, ".jpg") for prefix in orphans.PREFIXES}
    nobodys |= {f"{new_key('reports')}/report.zip", f"{new_key('reports')}/7.jpg"}
    for key in nobodys:
        storage.put(key, b"nobody's")
    for path in files.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 3600 * 25,) * 2)
    with app.app_context():
        assert {stat.key for stat in orphans.find()} == nobodys
        assert orphans.remove() == len(nobodys)
    assert {stat.key for prefix in (*prefixes, "clock") for stat in storage.list(prefix)} == named


def test_a_chore_that_cannot_be_done_stops_nothing(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with make_app(STORAGE_URL=(tmp_path / "file" / "files").as_uri()).app_context():
        chores.do()


def test_the_command_says_what_keeps_it_from_looking(tmp_path: Path, backend: object) -> None:
    (tmp_path / "file").write_text("in the way")
    env = {"STORAGE_URL": (tmp_path / "file" / "files").as_uri(), "DATA_DIR": str(tmp_path)}
    done = CliRunner().invoke(main, ["orphans"], env=env)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "The file could not be stored or read" in done.stderr
