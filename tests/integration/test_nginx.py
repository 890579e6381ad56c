"""The shipped nginx site, in a real nginx, in front of a real gunicorn on a Unix socket."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from app import create_app
from app.domain import jobs
from app.domain.jobs import NewImage, NewJob
from app.extensions import db, storage
from app.models import ImageState, JobSource
from app.storage import new_key
from config import Settings
from testbed.nginx import Front
from testbed.processes import PROJECT, Process, wait_for
from tests.conftest import Backend
from tests.integration import photos


@pytest.fixture(scope="module")
def folder(embedded: Backend, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a database, and a folder for files."""
    folder = tmp_path_factory.mktemp("front")
    (folder / "files").mkdir()
    shutil.copy(embedded.data_dir / "empty.db", folder / "imagejobs.db")
    return folder


@pytest.fixture(scope="module")
def env(folder: Path) -> dict[str, str]:
    return {"DATA_DIR": str(folder), "AUTH": "keys", "TRUSTED_PROXIES": "unix", "METRICS_TOKEN": "token"} | {
        "FILES_NGINX_LOCATION": "/stored/"
    }


@pytest.fixture(scope="module")
def large(env: dict[str, str]) -> bytes:
    """The content of the one image of job 1, which is stored."""
    body = os.urandom(1 << 20) * 30
    app = create_app(Settings.from_env(env))
    with app.app_context():
        key = new_key("uploads", ".zip")
        stored = storage.put(key, body)
        image = NewImage(
            storage_key=key, content_type="application/zip", bytes=stored.bytes, sha256=stored.sha256, format="ZIP",
            state=ImageState.DONE, width=1, height=1, perimeter=4,
        )  # fmt: skip
        assert jobs.create(NewJob(JobSource.UPLOADS, images=[image])).job_id == 1
        db.engine.dispose()
    return body


@pytest.fixture(scope="module")
def key(env: dict[str, str]) -> str:
    argv = [sys.executable, "-m", "app.cli", "keys", "create", "--scope", "admin"]
    done = subprocess.run(argv, cwd=PROJECT, env=os.environ | env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def web(env: dict[str, str], folder: Path) -> Iterator[Process]:
    place = folder / "web.sock"
    argv = [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "--bind", f"unix:{place}"]
    with Process(argv, env=env, log=folder / "web.log") as process:
        wait_for(lambda: place.exists() or not process.is_alive, 30, what="gunicorn's socket")
        assert process.is_alive, process.text
        yield process


@pytest.fixture(scope="module")
def front(web: Process, folder: Path) -> Iterator[Front]:
    with Front(f"unix:{folder}/web.sock", files=folder / "files", body_max="1m") as running:
        yield running


@pytest.fixture(scope="module")
def client(front: Front, key: str) -> Iterator[requests.Session]:
    with trusting(front) as session:
        session.headers["X-API-Key"] = key
        yield session


def trusting(front: Front) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # a CA bundle from the environment would win
    session.verify = str(front.certificate)
    return session


def test_it_passes_requests_on_and_counts_as_one(front: Front, client: requests.Session) -> None:
    answer = client.get(f"{front.url}/live", headers={"X-Request-ID": "abc"})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["X-Request-ID"] == "abc"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.headers["Server"] == "nginx"


def test_plain_http_is_led_to_tls_without_losing_a_body(front: Front) -> None:
    answer = requests.post(f"{front.plain_url}/api/submit/?a=b", data="{}", allow_redirects=False, timeout=10)
    assert answer.status_code == 308
    assert answer.headers["Location"] == "https://127.0.0.1/api/submit/?a=b"


def test_old_tls_is_refused(front: Front) -> None:
    context = ssl.create_default_context(cafile=str(front.certificate))
    with pytest.warns(DeprecationWarning):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", front.port), timeout=10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_body_past_the_limit_is_refused_in_json_and_read_no_further(front: Front, client: requests.Session) -> None:
    answer = client.post(f"{front.url}/api/submit/", data=b" " * (2 << 20))
    assert answer.status_code == 413
    assert answer.json() == {"error": "the body is larger than this service takes"}


def test_long_addresses_get_through(front: Front, client: requests.Session) -> None:
    answer = client.get(f"{front.url}/api/visits", params={"storeid": "S" * 7000})
    assert answer.status_code == 400 and "error" in answer.json()


def test_answers_are_compressed_for_who_asks(front: Front, client: requests.Session) -> None:
    answer = client.get(f"{front.url}/openapi.json", headers={"Accept-Encoding": "gzip"}, stream=True)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.raw.read(decode_content=False)).startswith(b"{")


def test_assets_are_asked_for_once(front: Front, client: requests.Session) -> None:
    address = f"{front.url}/docs/static/css/swagger-ui.css"
    first, second = client.get(address), client.get(address)
    assert [first.headers["X-Cache"], second.headers["X-Cache"]] == ["MISS", "HIT"]
    assert second.headers["Cache-Control"] == "max-age=3600"
    assert second.content == first.content


def test_metrics_are_for_this_host(front: Front, client: requests.Session) -> None:
    with trusting(front) as stranger:
        assert stranger.get(f"{front.url}/metrics").status_code == 401
        assert stranger.get(f"{front.url}/metrics", headers={"Authorization": "Bearer token"}).status_code == 200


def test_files_cannot_be_had_past_the_service(front: Front, client: requests.Session, folder: Path) -> None:
    (folder / "files/secret.jpg").write_bytes(b"secret")
    for path in ("/stored/secret.jpg", "/stored/../secret.jpg", "/%73tored/secret.jpg", "/stored//secret.jpg"):
        answer = client.get(f"{front.url}{path}")
        assert answer.status_code == 404
        assert b"secret" not in answer.content


def bytes_written(web: Process) -> int:
    """By gunicorn and its workers, to files and sockets of any kind."""
    workers = Path(f"/proc/{web.pid}/task/{web.pid}/children").read_text().split()
    texts = [Path(f"/proc/{pid}/io").read_text() for pid in (web.pid, *workers)]
    return sum(int(value) for text in texts for value in re.findall(r"^wchar: (\d+)$", text, re.MULTILINE))


def test_large_files_and_parts_of_them_do_not_pass_through_python(
    front: Front, client: requests.Session, web: Process, large: bytes
) -> None:
    address = f"{front.url}/api/jobs/1/images/0/file"
    before = bytes_written(web)
    whole = client.get(address)
    assert whole.status_code == 200 and whole.content == large
    part = client.get(address, headers={"Range": "bytes=1000000-25999999"})
    assert part.status_code == 206
    assert part.headers["Content-Range"] == f"bytes 1000000-25999999/{len(large)}"
    assert part.content == large[1_000_000:26_000_000]
    assert bytes_written(web) - before < 100_000
    for answer in (whole, part):
        assert answer.headers["Content-Type"] == "application/zip"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["X-Request-ID"]
        assert "X-Accel-Redirect" not in answer.headers
    assert client.get(address, headers={"Range": f"bytes={len(large)}-"}).status_code == 416


def test_a_file_is_for_who_may_see_it(front: Front, env: dict[str, str], large: bytes) -> None:
    argv = [sys.executable, "-m", "app.cli", "keys", "create"]
    done = subprocess.run(argv, cwd=PROJECT, env=os.environ | env, capture_output=True, text=True, check=True)
    with trusting(front) as stranger:
        address = f"{front.url}/api/jobs/1/images/0/file"
        assert stranger.get(address).status_code == 401
        assert stranger.get(address, headers={"X-API-Key": done.stdout.strip()}).status_code == 404


def test_nginx_sends_the_files_that_the_service_lets_out(front: Front, client: requests.Session) -> None:
    body = photos.image("PNG")
    assert client.post(f"{front.url}/upload_image_batch", json=[photos.item(body)]).status_code == 200
    [batch] = client.get(f"{front.url}/image_batches?page=1&per_page=1").json()
    address = f"{front.url}/{batch['images'][0]['file_path']}"
    answer = client.get(address)
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("inline; filename=")
    assert answer.headers["Cache-Control"].startswith("private")
    assert "X-Accel-Redirect" not in answer.headers
    part = client.get(address, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, body[5:10])
    assert client.get(address, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    assert client.head(address).headers["Content-Length"] == str(len(body))
    with trusting(front) as stranger:
        assert stranger.get(address).status_code == 401


def test_a_web_server_that_is_gone_is_said_in_json(tmp_path: Path) -> None:
    with Front(f"unix:{tmp_path}/nobody.sock", files=tmp_path) as front, trusting(front) as client:
        answer = client.get(f"{front.url}/live")
    assert (answer.status_code, answer.json()) == (503, {"error": "the web server does not answer"})
    assert answer.headers["Retry-After"] == "5"
