"""The sample photos, the job made of them, and the host that serves them."""

import hashlib
import io
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from PIL import Image, UnidentifiedImageError

from demo import jobs, photos
from demo.host import Host
from testbed.processes import PROJECT, is_running, wait_for

STORES_FILE = PROJECT / "data" / "stores_sample.csv"
NAMES = [photo.name for photo in photos.plan()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sample photos, written once."""
    target = tmp_path_factory.mktemp("photos")
    assert list(photos.write_all(target)) == [*NAMES, *photos.broken()]
    return target


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[Host]:
    with Host(folder) as started:
        yield started


def test_every_photo_opens_with_its_format_and_size(folder: Path) -> None:
    for photo in photos.plan():
        with Image.open(folder / photo.name) as picture:
            picture.load()
            assert (picture.format, picture.size) == (photo.format, photo.size)


def test_formats_and_sizes_are_many(folder: Path) -> None:
    planned = photos.plan()
    assert {photo.format for photo in planned} == {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"}
    assert {(320, 240), (4000, 3000), (3000, 4000)} <= {photo.size for photo in planned}
    contents = {hashlib.sha256((folder / photo.name).read_bytes()).digest() for photo in planned}
    assert len(contents) == photos.COUNT


def test_the_same_seed_draws_the_same_photo() -> None:
    photo, other = photos.plan(2)
    assert photos.encode(photo) == photos.encode(photo)
    assert photos.draw((320, 240), photo.seed).tobytes() != photos.draw((320, 240), other.seed).tobytes()


def test_broken_files_are_no_pictures() -> None:
    for name, content in photos.broken().items():
        with pytest.raises((UnidentifiedImageError, OSError)), Image.open(io.BytesIO(content)) as picture:
            pytest.fail(f"{name} opened as {picture}")


def test_the_job_has_known_stores_an_unknown_one_and_bad_pictures() -> None:
    broken = list(photos.broken())
    submission = jobs.build("http://host", NAMES, broken, images=503, stores=STORES_FILE)
    visits = submission.body["visits"]
    urls = [url for visit in visits for url in visit["image_url"]]
    stores = {visit["store_id"] for visit in visits}
    known = set(jobs.read_store_ids(STORES_FILE))
    assert len(urls) == submission.images == 503
    assert len(set(urls)) == len(urls)
    assert submission.body["count"] == len(visits)
    assert stores - known == {jobs.UNKNOWN_STORE}
    assert len(stores) > 40
    bad = {f"http://host/{name}" for name in [*broken, jobs.MISSING_PHOTO]}
    assert bad <= set(urls)
    spoilt = {visit["store_id"] for visit in visits if bad & set(visit["image_url"])}
    assert submission.failing == spoilt | {jobs.UNKNOWN_STORE}
    assert len(submission.failing) == len(bad) + 1


@pytest.mark.parametrize(
    ("path", "code", "kind"),
    [
        (f"/{NAMES[0]}", 200, "image/jpeg"),
        ("/shelf-006.webp?shelf=3", 200, "image/webp"),
        ("/shelf%2D005.png", 200, "image/png"),
        ("/login-page.jpg", 200, "image/jpeg"),
        ("/empty.jpg", 200, "image/jpeg"),
        ("/deleted.jpg", 404, "text/plain"),
        ("/../config.py", 404, "text/plain"),
        ("/status/503", 503, "text/plain"),
        ("/status/429/and/more", 429, "text/plain"),
        ("/status/999", 404, "text/plain"),
    ],
)
def test_the_host_answers(host: Host, path: str, code: int, kind: str) -> None:
    answer = requests.get(host.url + path, timeout=5)
    assert (answer.status_code, answer.headers["Content-Type"]) == (code, kind)


def test_files_come_as_they_are_and_head_without_them(host: Host, folder: Path) -> None:
    content = (folder / NAMES[3]).read_bytes()
    assert requests.get(f"{host.url}/{NAMES[3]}", timeout=5).content == content
    head = requests.head(f"{host.url}/{NAMES[3]}", timeout=5)
    assert (head.headers["Content-Length"], head.content) == (str(len(content)), b"")
    assert requests.post(f"{host.url}/{NAMES[3]}", data=b"x" * 100, timeout=5).status_code == 405


def test_slow_answers_hold_nobody_else_up(host: Host) -> None:
    with ThreadPoolExecutor() as pool, requests.Session() as session:
        started = time.monotonic()
        slow = pool.submit(requests.get, f"{host.url}/slow/0.7/{NAMES[0]}", timeout=5)
        assert session.get(f"{host.url}/{NAMES[0]}", timeout=5).ok
        assert not slow.done()
        assert slow.result().ok
        assert time.monotonic() - started >= 0.7


def test_connections_stay_open_and_requests_are_counted(folder: Path) -> None:
    with Host(folder) as host, requests.Session() as session:
        ports = Counter(_port_of(session.get(f"{host.url}/{NAMES[0]}?{n}", stream=True, timeout=5)) for n in range(5))
        assert list(ports.values()) == [5]
        assert host.counts()[f"/{NAMES[0]}"] == 5


def _port_of(answer: requests.Response) -> int:
    """Our side of the connection that the answer came by."""
    port: int = answer.raw._original_response.fp.raw._sock.getsockname()[1]
    assert answer.content
    return port


def test_the_host_ends_with_who_started_it(folder: Path) -> None:
    code = "import json, pathlib, signal, sys; from demo.host import Host\n"
    code += "with Host(pathlib.Path(sys.argv[1])) as host:\n"
    code += "    print(json.dumps([host._process.pid, host.url]), flush=True); signal.pause()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, url = json.loads(owner.stdout.readline())
        assert requests.get(f"{url}/{NAMES[0]}", timeout=5).ok
        owner.send_signal(signal.SIGKILL)
        wait_for(lambda: not is_running(pid), 5, what="the host's end")
