"""Large uploads and lists to a real web process: what they need in memory, and what becomes of those that break off."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from flask_migrate import upgrade

from app import create_app
from app.storage import LocalStorage
from config import Settings
from testbed import processes
from testbed.processes import wait_for
from tests.integration import photos

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

PHOTOS = 150
MEGABYTE = 1_000_000
HEAD = b"POST /upload_image_batch HTTP/1.1\r\nHost: localhost\r\n"
MB_MORE = 30  # what such a body may add to the process's peak: an item of 1.3 MB in each form that it takes, and air

MB_A_LARGE_JOB = 60  # its list as text several times over; the rows of 60,000 images would take 180


@pytest.fixture
def port() -> int:
    return processes.free_port()


@pytest.fixture
def web(worker_env: dict[str, str], tmp_path: Path, port: int) -> Iterator[processes.Process]:
    env = worker_env | {"STORAGE_URL": (tmp_path / "files").as_uri(), "UPLOAD_MAX_BYTES": str(400 * MEGABYTE)}
    with processes.web(env, tmp_path / "web.log", port=port) as process:
        yield process


def pieces(count: int = PHOTOS) -> Iterator[bytes]:
    """A body of so many photos of a megabyte, made as it is sent."""
    yield b"["
    for number in range(count):
        body = photos.image(size=(80, 60), colour=(number % 256, 0, 0))
        item = photos.item(body + os.urandom(MEGABYTE - len(body)), barcode=str(number))
        yield (b"," if number else b"") + json.dumps(item).encode()
    yield b"]"


def peak_mb(process: processes.Process) -> float:
    """The largest that the web process below the gunicorn master has been."""
    [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    status = Path(f"/proc/{child}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1000


def stored(tmp_path: Path) -> int:
    return sum(1 for _ in LocalStorage(tmp_path / "files").list("uploads"))


@pytest.mark.parametrize("length", ["announced", "in chunks"])
def test_memory_does_not_grow_with_the_body(web: processes.Process, port: int, tmp_path: Path, length: str) -> None:
    url = f"http://127.0.0.1:{port}/upload_image_batch"
    assert requests.post(url, json=[photos.item()], timeout=60).status_code == 200
    before = peak_mb(web)
    body = tmp_path / "body.json"
    if length == "announced":
        with body.open("wb") as file:
            file.writelines(pieces())
        answer = requests.post(url, data=body.open("rb"), timeout=200)
    else:
        answer = requests.post(url, data=pieces(), timeout=200)
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert stored(tmp_path) == PHOTOS + 1
    assert peak_mb(web) - before < MB_MORE


def test_memory_does_not_grow_with_the_rows_of_a_job(web: processes.Process, port: int) -> None:
    """All rows at once, as they go to the database, were 3 kB each."""

    def post(rows: int) -> int:
        lines = (f"{number}\thttps://host.example/{number}.jpg\n" for number in range(rows))
        url = f"http://127.0.0.1:{port}/api/v1/images_info_async/"
        answer = requests.post(url, files={"file": "id\turl\n" + "".join(lines)}, timeout=200)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["job_id"])

    post(100)
    before = peak_mb(web)
    job = post(60_000)
    assert peak_mb(web) - before < MB_A_LARGE_JOB
    shown = requests.get(f"http://127.0.0.1:{port}/api/jobs/{job}", timeout=20).json()
    assert shown["images"] == {"total": 60_000, "open": 60_000, "done": 0, "failed": 0, "cancelled": 0}


def test_a_body_past_the_bound_is_refused_before_it_is_sent(web: processes.Process, port: int, tmp_path: Path) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(HEAD + b"Content-Length: 1000000000000\r\n\r\n[")
        answer = b""
        while b'"}' not in answer and (piece := client.recv(65536)):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"larger than the 400000000 bytes" in answer
    assert stored(tmp_path) == 0


def test_an_upload_that_breaks_off_leaves_nothing(web: processes.Process, port: int, tmp_path: Path) -> None:
    item = json.dumps(photos.item(photos.image() + bytes(MEGABYTE))).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(HEAD + b"Content-Length: 90000000\r\n\r\n[")
        client.sendall(item + b"," + item + b"," + item[:1000])
        wait_for(lambda: stored(tmp_path), 20, what="a file")
    wait_for(lambda: stored(tmp_path) == 0, 20, what="the files to be removed")
    assert requests.get(f"http://127.0.0.1:{port}/image_batches?page=1&per_page=9", timeout=20).json() == []


def measure(count: int) -> str:
    """What a body of so many photos takes from a web process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), processes.free_port()
        env = {"DATABASE_URL": f"sqlite:///{folder}/large.db", "DATA_DIR": name, "UPLOAD_MAX_BYTES": str(10**11)}
        app = create_app(Settings.from_env(env))
        with app.app_context():
            upgrade()
        url = f"http://127.0.0.1:{port}/upload_image_batch"
        with processes.web(env, folder / "web.log", port=port) as process:
            requests.post(url, json=[photos.item()], timeout=60).raise_for_status()
            before, sent = peak_mb(process), []
            body = (sent.append(len(piece)) or piece for piece in pieces(count))
            requests.post(url, data=body, timeout=3600).raise_for_status()
            return f"{sum(sent) / 1e9:.2f} GB: peak {before:.0f} MB before, {peak_mb(process):.0f} MB after"


if __name__ == "__main__":
    sys.stdout.write(f"{measure(int(sys.argv[1]))}\n")
