"""``imagejobs results`` against a small real server that streams, breaks off, refuses or hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from testbed.processes import wait_for

PROJECT = Path(__file__).resolve().parents[2]
BODY = b'\xef\xbb\xbf"job_id"\r\n' + b"7\r\n" * 100_000
PARTS = [BODY[:1000], BODY[1000:]]


class Server(ThreadingHTTPServer):
    """``turns`` are taken one a request, the last again and again: whole, broken, away, refused, foreign, hang."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.turns = ["whole"]
        self.asked: list[str] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        turn = self.server.turns.pop(0) if len(self.server.turns) > 1 else self.server.turns[0]
        if turn in ("away", "refused", "foreign"):
            status, body = {
                "away": (503, b'{"error":"busy"}'),
                "refused": (404, b'{"error":"no such job \\u001b[31m"}'),
                "foreign": (200, b"<html>"),
            }[turn]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Content-Disposition", 'attachment; filename="job-7-results.csv"')
        self.end_headers()
        for part in PARTS:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.flush()
            if turn == "broken":
                self.close_connection = True
                return
            if turn == "hang":
                self.server.released.wait(30)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.released.set()
        running.shutdown()


def call(server: Server, *arguments: str, patience: float = 5) -> Result:
    environment = {"IMAGEJOBS_URL": server.url}
    return CliRunner().invoke(main, ["results", "7", *arguments, "--patience", str(patience)], env=environment)


def test_a_file_is_there_once_it_is_whole(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    done = call(server, "-o", str(file))
    assert (done.exit_code, done.output) == (0, "")
    assert file.read_bytes() == BODY
    assert [each.name for each in tmp_path.iterdir()] == ["out.csv"]
    assert file.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ([], "/api/jobs/7/results.csv"),
        (["--format", "jsonl"], "/api/jobs/7/results.jsonl"),
        (["-o", "x.json"], "/api/jobs/7/results.json"),
        (["-o", "x.parquet"], "/api/jobs/7/results.parquet"),
        (["--format", "coco"], "/api/jobs/7/results.coco.json"),
        (["-o", "x.megadetector.json"], "/api/jobs/7/results.megadetector.json"),
        (["-o", "coco.json"], "/api/jobs/7/results.json"),
        (["-o", "x.txt"], "/api/jobs/7/results.csv"),
        (["-o", "x.json", "--format", "csv"], "/api/jobs/7/results.csv"),
        (["--failed", "--error-code", "timeout"], "/api/jobs/7/results.csv?state=failed&error_code=timeout"),
        (["--separator", "semicolon"], "/api/jobs/7/results.csv?separator=semicolon"),
    ],
)
def test_what_is_asked_for_is_said_once(
    server: Server, arguments: list[str], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(server, *arguments).exit_code == 0
    assert server.asked == [path]


def test_without_a_file_it_goes_to_standard_output(server: Server) -> None:
    assert call(server).stdout_bytes == BODY


def test_an_answer_that_breaks_off_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.turns = ["broken", "away", "whole"]
    done = call(server, "-o", str(tmp_path / "out.csv"), patience=20)
    assert done.exit_code == 0
    assert done.stderr == f"{server.url} broke the answer off; trying again\n"
    assert (tmp_path / "out.csv").read_bytes() == BODY


def test_what_has_been_written_to_a_pipe_cannot_be_taken_back(server: Server) -> None:
    server.turns = ["broken"]
    done = call(server)
    assert done.exit_code == 2
    assert "what was written is not whole" in done.stderr


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ("broken", "broke the answer off"),
        ("away", "is busy or away (HTTP 503)"),
        ("refused", "Error: no such job \\u001b[31m"),
        ("foreign", "does not answer like imagejobs"),
    ],
)
def test_a_file_that_was_there_stays_where_nothing_comes(
    server: Server, tmp_path: Path, turn: str, message: str
) -> None:
    (tmp_path / "out.csv").write_text("of yesterday")
    server.turns = [turn]
    done = call(server, "-o", str(tmp_path / "out.csv"), patience=0.1)
    assert done.exit_code == 2
    assert message in done.stderr
    assert (tmp_path / "out.csv").read_text() == "of yesterday"
    assert [each.name for each in tmp_path.iterdir()] == ["out.csv"]


def test_ctrl_c_leaves_nothing_half(server: Server, tmp_path: Path) -> None:
    server.turns = ["hang"]
    argv = [sys.executable, "-m", "app.cli", "results", "7", "--url", server.url, "-o", str(tmp_path / "out.csv")]
    with subprocess.Popen(argv, cwd=PROJECT, stderr=subprocess.PIPE) as command:
        wait_for(lambda: list(tmp_path.iterdir()), 20, what="the file that is being written")
        command.send_signal(signal.SIGINT)
        assert command.stderr
        assert command.stderr.read() == b""
    assert command.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_a_link_and_a_device_stay_what_they_are(server: Server, tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("of yesterday")
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert call(server, "-o", str(tmp_path / "link.csv")).exit_code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_bytes() == BODY
    (tmp_path / "null").symlink_to("/dev/null")
    assert call(server, "-o", str(tmp_path / "null")).exit_code == 0
    assert Path("/dev/null").is_char_device()


def test_a_file_that_cannot_be_written_is_said_in_a_sentence(server: Server, tmp_path: Path) -> None:
    done = call(server, "-o", str(tmp_path / "missing" / "out.csv"))
    assert (done.exit_code, "cannot be written: No such file or directory" in done.stderr) == (2, True)
    assert server.asked == []


@pytest.mark.parametrize("arguments", [["--separator", "tab", "--format", "json"], ["--format", "xml"], ["-o", "."]])
def test_wrong_usage_ends_with_2_and_asks_nothing(server: Server, arguments: list[str]) -> None:
    assert call(server, *arguments).exit_code == 2
    assert server.asked == []
