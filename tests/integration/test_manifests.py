"""The manifests' door: images_info, as clients of it know it; what it refuses; and where it looks for files."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.domain import manifests
from app.web import manifests as web_manifests
from demo.host import Host
from testbed import processes
from testbed.processes import Process, free_port, wait_for
from tests.conftest import Backend
from tests.integration import hands

INFO = "/api/v1/images_info/"
NO_FILE = (422, {"error": "Invalid input file url"})
NO_DATA = (422, {"error": "Data is not provided"})
on_one_backend = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


FORM = b"--B\r\nContent-Disposition: form-data; name=file; filename=f\r\n\r\n%b\r\n--B--\r\n"


def tsv(*urls: str) -> bytes:
    return b"id\turl\n" + b"".join(f"{number}\t{url}\n".encode() for number, url in enumerate(urls))


def upload(client: FlaskClient, path: str, manifest: bytes, **fields: Any) -> Any:
    return client.post(path, data={"file": (io.BytesIO(manifest), "images.tsv"), **fields})


@pytest.fixture
def folder(backend: Backend, tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    return folder


@pytest.fixture
def client(make_app: Callable[..., Flask], folder: Path) -> FlaskClient:
    return make_app(MANIFEST_DIR=str(folder)).test_client()


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits says so at once, so that the answer begins before any image is done."""
    monkeypatch.setattr(web_manifests, "SILENCE_SECONDS", 0)


def test_the_answer_is_as_clients_know_it(
    client: FlaskClient, host: Host, folder: Path, start_worker: Callable[..., Process]
) -> None:
    start_worker(FETCH_TIMEOUT_SECONDS="1", RETRY_ATTEMPTS="1")
    urls = [f"{host.url}/{name}" for name in ("small.png", "nothing.png", "page.jpg", "slow/20/good1.jpg", "good1.jpg")]
    size = len((Path(host._folder) / "good1.jpg").read_bytes())
    (folder / "images.tsv").write_bytes(tsv(*urls))
    answer = client.post(INFO, json={"filepath": "images.tsv"})
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert list(answer.json) == ["0", "1", "2", "3", "4"]
    assert answer.json["0"]["url"] == urls[0]
    assert answer.json["0"]["image_info"]["image_dimension"] == [30, 20]
    assert answer.json["1"] == {"url": urls[1], "image_info": "", "error": "Image could not be requested."}
    assert answer.json["2"] == {"url": urls[2], "image_info": "", "error": "Image could not be opened."}
    assert answer.json["3"] == {"url": urls[3], "image_info": "", "error": "Timeout while requesting Image."}
    assert answer.json["4"] == {
        "url": urls[4],
        "image_info": {"image_size": size, "image_dimension": [64, 48], "image_format": "JPEG"},
    }
    status = client.get(answer.headers["Location"]).json
    assert (status["status"], status["source"], status["images"]["failed"]) == ("failed", "manifests", 3)


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_5004_rows_end_to_end(client: FlaskClient, host: Host, start_worker: Callable[..., Process]) -> None:
    start_worker(GPU_PAUSE_MIN_SECONDS="0", GPU_PAUSE_MAX_SECONDS="0")
    urls = [f"{host.url}/good{number % 5}.jpg?n={number}" for number in range(5004)]
    found = upload(client, INFO, gzip.compress(tsv(*urls))).json
    assert list(found) == [str(number) for number in range(5004)]
    assert [entry["url"] for entry in found.values()] == urls
    assert all(entry["image_info"]["image_dimension"] == [64, 48] for entry in found.values())


def test_rows_are_sent_while_others_are_still_open(client: FlaskClient, app: Flask, talkative: None) -> None:
    pieces = iter(upload(client, INFO, tsv("http://h/0", "http://h/1", "http://h/2")).response)
    with app.app_context():
        [claim] = hands.claim()
        hands.lifecycle.settle([hands.done(claim.work[0])], [])
    first = next(piece for piece in pieces if piece.strip())
    assert json.loads(first + b"}") == {
        "0": {
            "url": "http://h/0",
            "image_info": {"image_size": 20000, "image_dimension": [300, 200], "image_format": "JPEG"},
        }
    }
    with app.app_context():
        hands.lifecycle.settle([hands.done(work) for work in claim.work[1:]], [(claim.key, claim.token)])
    assert list(json.loads(first + b"".join(pieces))) == ["0", "1", "2"]


@on_one_backend
def test_further_columns_are_echoed(client: FlaskClient, app: Flask) -> None:
    threading.Timer(0.3, hands.work_off, [app]).start()
    found = upload(client, INFO, b"id\tshelf\turl\na\t7\thttp://h/0\n").json
    assert found["a"]["extra"] == {"shelf": "7"}
    job = client.get("/api/jobs").json["results"][0]["job_id"]
    row = client.get(f"/api/jobs/{job}/results.json").json["results"][0]
    assert (row["client_ref"], row["metadata"]) == ("a", {"shelf": "7"})


@on_one_backend
def test_what_is_open_when_the_time_is_over_has_timed_out(make_app: Callable[..., Flask]) -> None:
    client = make_app(MANIFEST_WAIT_SECONDS=0.3).test_client()
    found = upload(client, INFO, tsv("http://h/0", "http://h/1"))
    assert {entry["error"] for entry in found.json.values()} == {"Timeout while requesting Image."}
    assert client.get(found.headers["Location"]).json["state"] == "cancelled"


def test_a_client_that_goes_away_has_its_job_cancelled(client: FlaskClient, talkative: None) -> None:
    answer = upload(client, INFO, tsv("http://h/0", "http://h/1"))
    assert next(iter(answer.response)) == b"\n", "nothing was said meanwhile, and proxies would have given up"
    assert client.get(answer.headers["Location"]).json["state"] == "ongoing"
    answer.close()
    assert client.get(answer.headers["Location"]).json["state"] == "cancelled"


@on_one_backend
def test_a_connection_that_breaks_off_is_noticed_while_nothing_is_done(
    client: FlaskClient, worker_env: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    body = tsv("http://h/0")
    head = f"POST {INFO} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(FORM % body)}\r\n"
    head += "Content-Type: multipart/form-data; boundary=B\r\n\r\n"
    with processes.web(worker_env, tmp_path / "web.log", port=port):
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(head.encode() + FORM % body)
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
        [job] = client.get("/api/jobs").json["results"]
        address = f"/api/jobs/{job['job_id']}"
        wait_for(lambda: client.get(address).json["state"] == "cancelled", 20, what="the job to be cancelled")


@on_one_backend
def test_more_rows_than_are_waited_for_are_told_where_to_go(make_app: Callable[..., Flask]) -> None:
    client = make_app(MANIFEST_MAX_WAITED_ROWS=2).test_client()
    answer = upload(client, INFO, tsv("http://h/0", "http://h/1", "http://h/2"))
    assert answer.status_code == 413
    assert answer.json == {
        "error": "the manifest has more than 2 rows that are answered at once: post it to /api/v1/images_info_async/"
    }
    assert client.get("/api/jobs").json["results"] == []


@on_one_backend
def test_those_who_wait_leave_threads_for_others(make_app: Callable[..., Flask], talkative: None) -> None:
    client = make_app(WEB_THREADS=4).test_client()
    waiting = [upload(client, INFO, tsv("http://h/0")) for _ in range(2)]
    refused = upload(client, INFO, tsv("http://h/0"))
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert "images_info_async" in refused.json["error"]
    waiting.pop().close()
    assert upload(client, INFO, b"broken").status_code == 422
    waiting.append(upload(client, INFO, tsv("http://h/0")))
    assert waiting[-1].status_code == 200
    assert upload(client, INFO, tsv("http://h/0")).status_code == 503
    for answer in waiting:
        answer.close()


@on_one_backend
def test_the_same_idempotency_key_gives_the_same_job(client: FlaskClient, app: Flask) -> None:
    headers = {"Idempotency-Key": "monday"}

    def post(manifest: bytes) -> Any:
        threading.Timer(0.2, hands.work_off, [app]).start()
        # The boundary is part of the body, which must be the same.
        return client.post(INFO, data=FORM % manifest, headers=headers, content_type="multipart/form-data; boundary=B")

    first, second = (post(tsv("http://h/0")) for _ in range(2))
    assert first.json == second.json
    assert first.headers["Location"] == second.headers["Location"]
    assert post(tsv("http://h/1")).status_code == 409


@on_one_backend
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, NO_DATA),
        ({"data": b""}, NO_DATA),
        ({"data": b"not json"}, NO_DATA),
        ({"data": b"[" * 100_000}, NO_DATA),
        ({"data": {"x": "y"}, "content_type": "multipart/form-data"}, NO_DATA),
        ({"data": b"rubbish", "content_type": "multipart/form-data; boundary=B"}, NO_DATA),
        ({"json": {}}, NO_FILE),
        ({"json": []}, NO_FILE),
        ({"json": {"filepath": None}}, NO_FILE),
        ({"json": {"filepath": 7}}, NO_FILE),
        ({"json": {"filepath": ["images.tsv"]}}, NO_FILE),
        ({"json": {"filepath": ""}}, NO_FILE),
        ({"json": {"filepath": "missing.tsv"}}, NO_FILE),
    ],
)
def test_what_names_no_manifest_is_refused_in_known_words(
    client: FlaskClient, options: dict[str, Any], expected: tuple[int, Any]
) -> None:
    answer = client.post(INFO, **options)
    assert (answer.status_code, answer.json) == expected


@on_one_backend
def test_json_is_read_whatever_its_content_type(client: FlaskClient, folder: Path, app: Flask) -> None:
    (folder / "images.tsv").write_bytes(tsv("http://h/0"))
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        threading.Timer(0.2, hands.work_off, [app]).start()
        answer = client.post(INFO.rstrip("/"), data='\ufeff{"filepath": "images.tsv"}'.encode(), content_type=kind)
        assert list(answer.json) == ["0"]


@on_one_backend
@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        (b"id\turl\n", "line 1: there are no rows below it"),
        (tsv("http://h/0", "ftp://h/1"), "line 3: url: not an http(s) URL"),
        (tsv("http://h/0", ""), "line 3: url: not an http(s) URL"),
        (tsv("http://h/" + "x" * 9000), "line 2: url: longer than 8192 bytes"),
        (b"id\turl\n0\n", "line 2: has 1 columns, the header 2"),
    ],
)
def test_a_bad_row_is_named_by_its_line_and_nothing_is_stored(
    client: FlaskClient, manifest: bytes, sentence: str
) -> None:
    answer = upload(client, INFO, manifest)
    assert (answer.status_code, answer.json) == (422, {"error": sentence})
    assert client.get("/api/jobs").json["results"] == []


@on_one_backend
def test_a_manifest_that_is_too_long_is_413(make_app: Callable[..., Flask]) -> None:
    client = make_app(MANIFEST_MAX_BYTES=2000, JOB_MAX_IMAGES=10).test_client()
    assert upload(client, INFO, gzip.compress(tsv("http://h/" + "x" * 4000))).status_code == 413
    assert upload(client, INFO, tsv(*["http://h/"] * 11)).status_code == 413


@on_one_backend
def test_ping(client: FlaskClient) -> None:
    for path in ("/ping/", "/ping"):
        assert client.get(path).json == {"ping": "pong"}


OUTSIDE_NAMES = [
    "../secret.tsv",
    "../secret.tsv\0",
    "./../secret.tsv",
    "..//secret.tsv",
    "inner/../../secret.tsv",
    "inner/../../manifests/../secret.tsv",
    "../../../../../../../../../../etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "///etc/passwd",
    "/./etc/passwd",
    "/etc/../etc/passwd",
    "/proc/self/environ",
    "/proc/self/cmdline",
    "/proc/self/fd/0",
    "/proc/self/cwd/README.md",
    "/proc/self/root/etc/passwd",
    "/dev/zero",
    "/dev/stdin",
    "/dev/fd/0",
    "~/secret.tsv",
    "~root/.bashrc",
    "$HOME/secret.tsv",
    "${MANIFEST_DIR}/../secret.tsv",
    "..\\secret.tsv",
    "..\\..\\secret.tsv",
    "inner\\..\\..\\secret.tsv",
    "C:\\Windows\\win.ini",
    "\\\\host\\share\\images.tsv",
    "%2e%2e/secret.tsv",
    "%2e%2e%2fsecret.tsv",
    "..%2fsecret.tsv",
    "..%c0%afsecret.tsv",
    "%252e%252e%252fsecret.tsv",
    ".\u2024/secret.tsv",
    "\uff0e\uff0e/secret.tsv",
    "..\u2215secret.tsv",
    "\u2025/secret.tsv",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "http://127.0.0.1/images.tsv",
    "ftp://host/images.tsv",
    "s3://bucket/images.tsv",
    "data:text/plain,id%09url",
    "link_out.tsv",
    "link_out_absolute.tsv",
    "link_to_folder/secret.tsv",
    "link_loop.tsv",
    "link_dangling.tsv",
    "link_to_link.tsv",
    "inner/link_up/secret.tsv",
    "pipe.tsv",
    "inner",
    ".",
    "..",
    "/",
    "images.tsv/../../secret.tsv",
    "images.tsv\0.png",
    "\0",
    " ",
    "\n",
    "images.tsv\n",
    "a" * 300,
    "a/" * 5000,
    "\ud800",
    "Images.TSV",
    "*.tsv",
    "image?.tsv",
]


@on_one_backend
def test_nothing_outside_the_folder_is_read(client: FlaskClient, folder: Path) -> None:
    """Each is answered exactly as a file that is not there, and none is waited for."""
    secret = folder.parent / "secret.tsv"
    secret.write_bytes(tsv("http://h/secret"))
    (folder / "images.tsv").write_bytes(tsv("http://h/0"))
    (folder / "inner").mkdir()
    (folder / "link_out.tsv").symlink_to("../secret.tsv")
    (folder / "link_out_absolute.tsv").symlink_to(secret)
    (folder / "link_to_folder").symlink_to(folder.parent, target_is_directory=True)
    (folder / "link_loop.tsv").symlink_to("link_loop.tsv")
    (folder / "link_dangling.tsv").symlink_to("nowhere.tsv")
    (folder / "link_to_link.tsv").symlink_to("link_out.tsv")
    (folder / "inner" / "link_up").symlink_to("../..", target_is_directory=True)
    os.mkfifo(folder / "pipe.tsv")
    names = [*OUTSIDE_NAMES, str(secret), f"{folder}/../secret.tsv", f"{folder}x/../secret.tsv", f"{folder}"]
    assert len(names) > 60
    answers = {name: client.post(INFO, json={"filepath": name}) for name in names}
    assert {name for name, answer in answers.items() if (answer.status_code, answer.json) != NO_FILE} == set()
    assert client.get("/api/jobs").json["results"] == []


@on_one_backend
def test_a_sibling_whose_name_begins_alike_is_outside(client: FlaskClient, folder: Path) -> None:
    (folder.parent / "manifests-of-others").mkdir()
    (folder.parent / "manifests-of-others" / "images.tsv").write_bytes(tsv("http://h/0"))
    for name in (f"{folder}-of-others/images.tsv", "../manifests-of-others/images.tsv"):
        answer = client.post(INFO, json={"filepath": name})
        assert (answer.status_code, answer.json) == NO_FILE


@on_one_backend
@pytest.mark.parametrize("mode", ["relative", "absolute", "link", "through a linked folder"])
def test_what_lies_inside_is_found_however_it_is_named(
    client: FlaskClient, folder: Path, app: Flask, mode: str, make_app: Callable[..., Flask]
) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "images.tsv").write_bytes(tsv("http://h/0"))
    (folder / "link.tsv").symlink_to("inner/images.tsv")
    (folder.parent / "elsewhere").symlink_to(folder)
    name = {"relative": "inner/../inner/images.tsv", "absolute": f"{folder}/inner/images.tsv", "link": "link.tsv"}.get(
        mode, f"{folder.parent}/elsewhere/inner/images.tsv"
    )
    if mode == "through a linked folder":
        client = make_app(MANIFEST_DIR=f"{folder.parent}/elsewhere").test_client()
    threading.Timer(0.2, hands.work_off, [app]).start()
    assert list(client.post(INFO, json={"filepath": name}).json) == ["0"]


@on_one_backend
def test_without_a_folder_no_file_is_there(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    client = make_app(MANIFEST_DIR=str(tmp_path / "nowhere")).test_client()
    answer = client.post(INFO, json={"filepath": "images.tsv"})
    assert (answer.status_code, answer.json) == NO_FILE
    assert NO_FILE[1]["error"] == manifests.NOT_THERE
