"""`imagejobs upload` against a real web process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result

from app.cli import main, uploads
from testbed import processes
from tests.integration import photos

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def port() -> int:
    return processes.free_port()


@pytest.fixture
def env(worker_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return worker_env | {"STORAGE_URL": (tmp_path / "files").as_uri(), "FETCH_MAX_BYTES": "300000"}


@pytest.fixture
def web(env: dict[str, str], tmp_path: Path, port: int) -> Iterator[processes.Process]:
    with processes.web(env, tmp_path / "web.log", port=port) as process:
        yield process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number in range(7):
        body = photos.image(colour=(number, 0, 0)) + os.urandom(1000 * number + number % 3)
        (folder / ("more" if number > 4 else "") / f"{number}.JPG").write_bytes(body)
    (folder / "notes.txt").write_text("no photo")
    return folder


def upload(port: int, folder: Path, *options: str) -> Result:
    environment = {"IMAGEJOBS_URL": f"http://127.0.0.1:{port}"}
    return CliRunner().invoke(main, ["upload", str(folder), "--patience", "20", *options], env=environment)


def batches(port: int, query: str = "") -> list[list[dict[str, str]]]:
    address = f"http://127.0.0.1:{port}/image_batches?page=1&per_page=100{query}"
    return [batch["images"] for batch in reversed(requests.get(address, timeout=10).json())]


def stored(port: int, images: list[dict[str, str]]) -> list[bytes]:
    return [requests.get(f"http://127.0.0.1:{port}/{image['file_path']}", timeout=10).content for image in images]


def test_the_photos_of_a_folder_become_jobs(
    web: object, port: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "FILES_A_BATCH", 3)
    os.utime(folder / "0.JPG", (1_600_000_000, 1_600_000_000))
    done = upload(port, folder, "--store-name", "Müller", "--camera-id", "c", "--barcode", "b")
    assert (done.exit_code, done.stdout) == (0, "1\n2\n3\n"), done.output
    assert "7 files" in done.stderr
    found = batches(port)
    assert [len(images) for images in found] == [3, 3, 1]
    sent = [path.read_bytes() for path in [*sorted(folder.glob("*.JPG")), *sorted(folder.glob("more/*"))]]
    assert [body for images in found for body in stored(port, images)] == sent
    assert found[0][0]["timestamp"] == "2020-09-13T12:26:40+00:00"
    assert len(batches(port, "&store_name=Müller&camera_id=c&barcode=b")) == 3


def test_a_second_call_makes_no_second_job_unless_told_to(web: object, port: int, folder: Path) -> None:
    assert [upload(port, folder).stdout for _ in range(2)] == ["1\n", "1\n"]
    assert upload(port, folder, "--again").stdout == "2\n"
    assert upload(port, folder, "--camera-id", "other").stdout == "3\n"


def test_files_that_are_not_taken_are_named_and_the_others_are_uploaded(web: object, port: int, folder: Path) -> None:
    (folder / "2b.jpg").write_text("<html>")
    (folder / "3b.jpg").write_bytes(photos.image() + bytes(300_000))
    done = upload(port, folder)
    assert (done.exit_code, done.stdout) == (1, "1\n")
    assert f"not taken: {folder / '2b.jpg'}: It is a web page (HTML), not an image." in done.stderr
    assert f"not taken: {folder / '3b.jpg'}: larger than the 300000 bytes that an image may have" in done.stderr
    assert [len(images) for images in batches(port)] == [7]


def test_a_service_that_comes_late_is_waited_for(env: dict[str, str], tmp_path: Path, port: int, folder: Path) -> None:
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(upload(port, folder)))
    thread.start()
    with processes.web(env, tmp_path / "web.log", port=port):
        thread.join(30)
    assert [(done.exit_code, done.stdout) for done in results] == [(0, "1\n")]
    assert "trying again" in results[0].stderr


def test_nothing_to_upload_ends_with_2(backend: object, port: int, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = upload(port, tmp_path / "empty")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"Error: {tmp_path / 'empty'}: there are no images in it\n"


def test_watch_follows_the_jobs(
    web: object, port: int, folder: Path, start_worker: Callable[..., object], env: dict[str, str]
) -> None:
    start_worker(STORAGE_URL=env["STORAGE_URL"])
    done = upload(port, folder, "--watch")
    assert (done.exit_code, done.stdout) == (0, "1\n")
    assert "7/7" in done.stderr
