"""``imagejobs manifest`` against a small real server that speaks the contract."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from werkzeug.formparser import parse_form_data

from tests.unit.fake_service import Server
from tests.unit.test_cli_client import call
from tests.unit.test_cli_client import server as server

MANIFEST = b"id\turl\n0\thttp://h/0\n"


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "images.tsv").write_bytes(MANIFEST)
    return str(tmp_path / "images.tsv")


def sent(server: Server) -> list[tuple[dict[str, str], bytes]]:
    """The fields and the file of each form that arrived."""
    found = []
    for kind, body in server.forms:
        environ = {"CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
        _, form, files = parse_form_data({"REQUEST_METHOD": "POST", **environ})
        found.append((form.to_dict(), files["file"].read()))
    return found


def test_it_prints_the_id_and_nothing_else(server: Server, file: str) -> None:
    done = call(server, "manifest", file)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "7\n", "")
    assert server.asked[0][0] == "/api/v1/batch_predict/"
    assert sent(server) == [({}, MANIFEST)]


@pytest.mark.parametrize(
    ("options", "path", "fields"),
    [
        (["--queue", "images"], "/api/v1/images_info_async/", {}),
        (["--queue", "batch", "--batch-size", "5"], "/api/v1/batch_predict/", {"batch_size": "5"}),
        (
            ["--queue", "batch", "--batch-size", "5", "--dtype", "float32", "--encoding", "base64"],
            "/api/v1/batch_predict/",
            {"batch_size": "5", "dtype": "float32", "encoding": "base64"},
        ),
    ],
)
def test_it_asks_for_the_list_that_is_wanted(
    server: Server, file: str, options: list[str], path: str, fields: dict[str, str]
) -> None:
    assert call(server, "manifest", file, *options).exit_code == 0
    assert server.asked[0][0] == path
    assert sent(server) == [(fields, MANIFEST)]


def test_standard_input_is_read_as_bytes(server: Server) -> None:
    assert call(server, "manifest", "-", stdin=MANIFEST.decode()).stdout == "7\n"
    assert sent(server)[0][1] == MANIFEST


@pytest.mark.parametrize(("verdict", "code"), [("completed", 0), ("failed", 1)])
def test_watch_ends_with_the_job_and_its_exit_code(server: Server, file: str, verdict: str, code: int) -> None:
    server.verdict = verdict
    done = call(server, "manifest", file, "--watch")
    assert done.exit_code == code
    assert f"job 7: {verdict}" in done.stdout
    assert "40/40" in done.stderr


def test_an_attempt_after_a_lost_answer_sends_the_same_body(server: Server, file: str) -> None:
    server.faults = ["lost", (503, {"Retry-After": "0"})]
    assert call(server, "manifest", file).stdout == "7\n"
    assert len(server.jobs) == 1
    assert len(set(server.forms)) == 1
    assert call(server, "manifest", file, "--idempotency-key", "monday").stdout == "8\n"
    assert call(server, "manifest", file, "--idempotency-key", "monday").stdout == "8\n"
    assert len(set(server.forms)) == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--queue", "batch"],
        ["--batch-size", "5"],
        ["--queue", "images", "--dtype", "uint8"],
        ["--queue", "batch", "--batch-size", "0"],
        ["--queue", "other"],
    ],
)
def test_wrong_usage_ends_with_2_and_asks_nothing(server: Server, file: str, options: list[str]) -> None:
    assert call(server, "manifest", file, *options).exit_code == 2
    assert call(server, "manifest", "/no/such/file").exit_code == 2
    assert server.asked == []
