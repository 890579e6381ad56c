"""The shipped nginx site, in a real nginx, in front of a real gunicorn on a Unix socket."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from testbed.nginx import Front
from testbed.processes import PROJECT, Process, wait_for
from tests.conftest import Backend


@pytest.fixture(scope="module")
def folder(embedded: Backend, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a database, and a folder for files."""
    folder = tmp_path_factory.mktemp("front")
    (folder / "files").mkdir()
    shutil.copy(embedded.data_dir / "empty.db", folder / "imagejobs.db")
    return folder


@pytest.fixture(scope="module")
def env(folder: Path) -> dict[str, str]:
    return {"DATA_DIR": str(folder), "AUTH": "keys", "TRUSTED_PROXIES": "unix", "METRICS_TOKEN": "token"}


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


def test_a_web_server_that_is_gone_is_said_in_json(tmp_path: Path) -> None:
    with Front(f"unix:{tmp_path}/nobody.sock", files=tmp_path) as front, trusting(front) as client:
        answer = client.get(f"{front.url}/live")
    assert (answer.status_code, answer.json()) == (503, {"error": "the web server does not answer"})
    assert answer.headers["Retry-After"] == "5"
