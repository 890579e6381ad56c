"""The command line client against a small real server that speaks the contract."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli import main, output
from tests.unit import fake_service
from tests.unit.fake_service import EVIL, IMAGES, Server

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def job_file(tmp_path: Path) -> str:
    file = tmp_path / "job.json"
    visit = {"store_id": "S1", "image_url": ["https://host/a.jpg"], "visit_time": "2020-09-02"}
    file.write_text(json.dumps({"count": 1, "visits": [visit]}))
    return str(file)


def call(server: Server, *arguments: str, stdin: str | None = None, patience: float = 5) -> Result:
    environment = {"IMAGEJOBS_URL": server.url}
    return CliRunner().invoke(main, [*arguments, "--patience", str(patience)], input=stdin, env=environment)


def test_submit_prints_the_id_and_nothing_else(server: Server, job_file: str) -> None:
    done = call(server, "submit", job_file)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "7\n", "")
    assert server.asked[0][2]["Content-Type"] == "application/json"


def test_submit_reads_standard_input(server: Server, job_file: str) -> None:
    done = call(server, "submit", "-", stdin=Path(job_file).read_text())
    assert (done.exit_code, done.stdout) == (0, "7\n")


@pytest.mark.parametrize(("verdict", "code"), [("completed", 0), ("failed", 1)])
def test_watch_ends_with_the_job_and_its_exit_code(server: Server, job_file: str, verdict: str, code: int) -> None:
    server.verdict = verdict
    done = call(server, "submit", job_file, "--watch")
    assert done.exit_code == code
    assert done.stdout.startswith(f"7\njob 7: {verdict}\nimages: 40 (39 done, 1 failed) in 2.0 s, 20 images/s\n")
    assert "40/40" in done.stderr
    assert "1 failed" in done.stderr
    assert ("S1: no such store" in done.stdout) == (verdict == "failed")


def test_submit_that_is_refused_ends_with_2_and_the_reason(server: Server) -> None:
    done = call(server, "submit", "-", stdin="{}")
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", "Error: visits: is missing\n")
    assert len(server.asked) == 1


@pytest.mark.parametrize("arguments", [["submit", "/no/such/file"], ["status", "x"], ["status", "0"], ["nonsense"],
                                       ["images", "7", "--state", "odd"]])  # fmt: skip
def test_wrong_usage_ends_with_2_and_asks_nothing(server: Server, arguments: list[str]) -> None:
    assert call(server, *arguments).exit_code == 2
    assert server.asked == []


@pytest.mark.parametrize("fault", ["lost", (503, {}), (502, {}), (429, {"Retry-After": "0"})])
def test_a_repeated_submission_makes_one_job(server: Server, job_file: str, fault: Any) -> None:
    server.faults = [fault, fault]
    done = call(server, "submit", job_file)
    assert (done.exit_code, done.stdout) == (0, "7\n")
    keys = [headers["Idempotency-Key"] for _, _, headers in server.asked]
    assert len(keys) == 3
    assert len(set(keys)) == len(server.jobs) == 1
    assert done.stderr.count("trying again") == 1


def test_two_submissions_are_two_jobs_unless_the_key_is_given(server: Server, job_file: str) -> None:
    ids = [call(server, "submit", job_file).stdout for _ in range(2)]
    ids += [call(server, "submit", job_file, "--idempotency-key", "monday").stdout for _ in range(2)]
    assert ids == ["7\n", "8\n", "9\n", "9\n"]


def test_retry_after_is_waited_for(server: Server, job_file: str) -> None:
    server.faults = [(503, {"Retry-After": "1"})]
    start = time.monotonic()
    assert call(server, "submit", job_file).exit_code == 0
    assert 1 <= time.monotonic() - start < 4


def test_a_wait_longer_than_the_patience_ends_at_once(server: Server, job_file: str) -> None:
    server.faults = [(503, {"Retry-After": "3600"})]
    start = time.monotonic()
    done = call(server, "submit", job_file)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "is busy or away (HTTP 503): fault \\u001b[31m" in done.stderr  # what the service says, made harmless
    assert time.monotonic() - start < 3


def test_an_absent_service_is_named_and_ends_with_2(server: Server, job_file: str) -> None:
    done = call(server, "submit", job_file, "--url", "localhost:1", patience=0.1)
    assert done.exit_code == 2
    assert done.stderr.endswith("Error: http://localhost:1 cannot be reached: Connection refused\n")


@pytest.mark.parametrize(("status", "headers", "message"), [
    (500, {}, "Error: fault"),
    (404, {}, "Error: fault"),
    (302, {"Location": "https://elsewhere/"}, "has moved to https://elsewhere/"),
    (200, {}, "does not answer like imagejobs: HTTP 200 without 'job_id'"),
])  # fmt: skip
def test_an_answer_that_no_patience_helps_is_not_repeated(
    server: Server, job_file: str, status: int, headers: dict[str, str], message: str
) -> None:
    server.faults = [(status, headers)]
    done = call(server, "submit", job_file)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "\x1b" not in done.stderr
    assert len(server.asked) == 1


def test_the_key_is_sent(server: Server, job_file: str) -> None:
    call(server, "submit", job_file, "--key", "secret")
    call(server, "submit", job_file)
    assert [headers.get("Authorization") for _, _, headers in server.asked] == ["Bearer secret", None]


def test_status_tells_how_far_the_job_is(server: Server, job_file: str) -> None:
    call(server, "submit", job_file)
    done = call(server, "status", "7")
    assert (done.exit_code, done.stdout) == (0, "job 7: ongoing\nimages: 40 (19 done, 1 failed, 20 open), 0:03 left\n")


def test_status_of_a_failed_job_names_its_stores_and_ends_with_1(server: Server, job_file: str) -> None:
    server.verdict = "failed"
    call(server, "submit", job_file)
    done = call(server, "status", "7", "--watch")
    assert done.exit_code == 1
    assert "  S1: no such store \\u001b[31mRED\\u0007\\u202e\n" in done.stdout


def test_status_as_json_is_the_answer_of_the_service(server: Server, job_file: str) -> None:
    server.verdict = "failed"
    call(server, "submit", job_file)
    done = call(server, "status", "7", "--json", "--watch")
    assert json.loads(done.stdout)["error"] == [{"store_id": "S1", "error": f"no such store {EVIL}"}]
    assert done.stdout.isascii()


def test_status_of_an_unknown_job_ends_with_2(server: Server) -> None:
    done = call(server, "status", "99")
    assert (done.exit_code, done.stderr) == (2, f"Error: {server.url} has no job 99\n")


def test_images_are_listed_over_all_pages(server: Server) -> None:
    lines = call(server, "images", "7").stdout.splitlines()
    assert lines[0].split() == ["#", "URL", "STATE", "ERROR", "SIZE", "PERIMETER", "SECONDS", "ATTEMPTS", "REASON"]
    assert lines[1].split() == ["0", "https://host/a.jpg", "done", "40x30", "140", "0.25", "1"]
    assert lines[2].split()[:5] == ["1", "https://host/b.jpg", "failed", "http_404", "2"]
    assert len(lines) == 4


def test_images_are_filtered_by_the_service(server: Server) -> None:
    done = call(server, "images", "7", "--failed", "--error-code", "http_404", "--json")
    assert [row["seq"] for row in json.loads(done.stdout)] == [1]
    assert server.asked[0][1] == {"state": "failed", "error_code": "http_404", "per_page": "1000"}
    assert json.loads(call(server, "images", "7", "--state", "open", "--json").stdout) == []


def test_images_of_an_unknown_job_end_with_2(server: Server) -> None:
    assert call(server, "images", "8").exit_code == 2


def test_a_service_that_repeats_a_page_ends_with_2(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_service, "page_of", lambda rows, query: {"results": rows[:1], "next": "1"})
    done = call(server, "images", "7")
    assert done.exit_code == 2
    assert "the same page again and again" in done.stderr


def test_errors_are_listed_by_code(server: Server) -> None:
    lines = call(server, "errors", "7").stdout.splitlines()
    assert lines[0].split() == ["ERROR", "IMAGES", "FOR", "EXAMPLE", "URL", "REASON"]
    assert lines[1].split()[:4] == ["http_404", "12", "1", "https://host/b.jpg"]
    assert lines[2].split() == ["timeout", "1"]
    assert "\x1b" not in lines[1]
    assert json.loads(call(server, "errors", "7", "--json").stdout)[0]["images"] == 12


def test_retry_says_how_many_and_asks_for_all_that_failed(server: Server) -> None:
    done = call(server, "retry", "7")
    assert (done.exit_code, done.stdout) == (
        0,
        "job 7: 3 images are tried again\n  2 are not: their stores are not in the store master\n",
    )
    assert server.bodies == [{"error_codes": None, "store_ids": None, "cancelled": False}]


def test_retry_by_reason_and_store_follows_the_job(server: Server, job_file: str) -> None:
    call(server, "submit", job_file)
    server.verdict = "failed"
    chosen = ["--error-code", "timeout", "--error-code", "http_503", "--store", "S1", "--cancelled"]
    done = call(server, "retry", "7", *chosen, "--watch")
    assert done.exit_code == 1
    assert "job 7: failed" in done.stdout
    assert server.bodies == [{"error_codes": ["timeout", "http_503"], "store_ids": ["S1"], "cancelled": True}]


@pytest.mark.parametrize("command", ["retry", "cancel"])
def test_a_repeated_change_names_itself_with_one_key(server: Server, command: str) -> None:
    server.faults = ["lost", (503, {})]
    assert call(server, command, "7").exit_code == 0
    keys = [headers["Idempotency-Key"] for _, _, headers in server.asked]
    assert (len(keys), len(set(keys))) == (3, 1)


def test_cancel_tells_what_became_of_the_job_and_is_no_failure(server: Server) -> None:
    done = call(server, "cancel", "7")
    assert (done.exit_code, done.stdout) == (
        0,
        "job 7: cancelled\nimages: 40 (10 done, 30 cancelled)\n  S1: cancelled\n",
    )
    server.cancelled[1].update(status="ongoing", state="ongoing", cancelled_at="2020-09-02T00:00:53Z")
    assert call(server, "cancel", "7").stdout.startswith("job 7: being cancelled\n")


def test_a_cancel_that_is_refused_ends_with_2_and_the_reason(server: Server) -> None:
    server.cancelled = (409, {"error": "job 7 is completed: there is nothing left to cancel"})
    done = call(server, "cancel", "7")
    assert (done.exit_code, done.stderr) == (2, "Error: job 7 is completed: there is nothing left to cancel\n")


def test_jobs_stop_at_the_limit(server: Server) -> None:
    rows = json.loads(call(server, "jobs", "--limit", "2", "--state", "completed", "--json").stdout)
    assert [row["job_id"] for row in rows] == [3, 2]
    assert [query for _, query, _ in server.asked] == [
        {"state": "completed", "per_page": "2"},
        {"state": "completed", "per_page": "2", "cursor": "1"},
    ]
    assert len(call(server, "jobs").stdout.splitlines()) == 4


def test_visits_are_one_row_each(server: Server) -> None:
    done = call(server, "visits", "--area", "710006", "--store", "S1", "--from", "2020-09-01", "--to", "2020-09-30")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["STORE", "S1", "S1", "S2"]
    filters = {"area": "710006", "storeid": "S1", "startdate": "2020-09-01", "enddate": "2020-09-30"}
    assert filters.items() <= server.asked[0][1].items()
    rows = json.loads(call(server, "visits", "--area", "710006", "--json").stdout)
    assert [(row["store_id"], row["store_name"], row["perimeter"]) for row in rows] == [
        ("S1", "BHARAT STORE", 2000),
        ("S1", "BHARAT STORE", 140),
        ("S2", "@SUM(A1)", 8),
    ]


def test_visits_without_a_filter_say_what_is_missing(server: Server) -> None:
    done = call(server, "visits")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "give at least one of" in done.stderr


def test_csv_holds_no_formula(server: Server) -> None:
    visits = list(csv.DictReader(io.StringIO(call(server, "visits", "--area", "710006", "--csv").stdout)))
    assert [row["store_name"] for row in visits] == ["BHARAT STORE", "BHARAT STORE", "'@SUM(A1)"]
    assert [row["perimeter"] for row in visits] == ["2000", "140", "8"]
    images = list(csv.DictReader(io.StringIO(call(server, "images", "7", "--csv").stdout)))
    assert images[2]["url"] == "'=cmd|' /C calc'!A0"
    assert images[1]["error_message"] == f"gone {EVIL}"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_every_beginning_of_a_formula_is_defused(start: str) -> None:
    assert output._inert(f"{start}1", str) == f"'{start}1"
    assert output._inert(-1, str) == -1


@pytest.mark.parametrize("form", ["--json", "--csv", "--table"])
def test_a_terminal_never_sees_control_characters(server: Server, form: str) -> None:
    arguments = [] if form == "--table" else [form]
    shown = _in_terminal(["images", "7", "--url", server.url, *arguments])
    assert b"http_404" in shown
    assert not {b"\x1b", b"\x07", "\u202e".encode()} & {
        shown[at : at + size] for at in range(len(shown)) for size in (1, 3)
    }


def _in_terminal(arguments: list[str]) -> bytes:
    """What a command writes to a terminal 120 characters wide."""
    main_end, command_end = pty.openpty()
    with subprocess.Popen(_command(arguments), stdout=command_end, env=os.environ | {"COLUMNS": "120"}, cwd=PROJECT):
        os.close(command_end)
        shown = b""
        try:
            while chunk := os.read(main_end, 65_536):
                shown += chunk
        except OSError:
            pass  # Linux says so when the other end has closed
    os.close(main_end)
    return shown


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "app.cli", *arguments]


def test_addresses_are_cut_in_the_middle_to_fit() -> None:
    assert output._shortened("https://host/some/long/path/photo.jpg", 20) == "https://h…/photo.jpg"
    assert output._shortened("राम किराना स्टोर, नया बाजार", 12).count("…") == 1


def test_a_closed_pipe_ends_quietly(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_service, "page_of", lambda rows, query: {"results": IMAGES * 2000, "next": None})
    with subprocess.Popen(
        _command(["images", "7", "--url", server.url]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PROJECT
    ) as command:
        assert command.stdout and command.stderr
        command.stdout.readline()
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 130


def test_ctrl_c_ends_quietly(server: Server, job_file: str) -> None:
    server.faults = [(503, {"Retry-After": "20"})]
    with subprocess.Popen(
        _command(["submit", job_file, "--url", server.url]), stderr=subprocess.PIPE, cwd=PROJECT
    ) as command:
        assert command.stderr
        assert b"trying again" in command.stderr.readline()
        command.send_signal(signal.SIGINT)
        assert command.stderr.read() == b""
    assert command.returncode == 130


def test_names_beyond_ascii_survive_a_terminal_that_cannot_show_them(server: Server) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        _command(["images", "7", "--url", server.url, "--csv"]), env=environment, cwd=PROJECT, capture_output=True
    )
    assert done.returncode == 0
    assert b"gone" in done.stdout


def test_the_client_does_not_load_the_server() -> None:
    code = "import sys, app.cli.client; print({'flask', 'celery', 'sqlalchemy', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
