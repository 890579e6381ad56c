"""The supervisor with real children: it is a process of its own here, since signals and deaths are its subject."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.supervisor import SAME_KEYSTROKE_SECONDS
from testbed.processes import PROJECT, Process, is_running, wait_for

# Reads a list of commands and limits as JSON, runs them, ends with the supervisor's code.
RUNNER = """
import json, sys
from app.supervisor import Command, Limits, Supervisor
plan = json.loads(sys.argv[1])
sys.exit(Supervisor([Command(**command) for command in plan["commands"]], Limits(**plan["limits"])).run())
"""

# A child with a child of its own in its group, as gunicorn has; each writes its number into the folder argv[1].
FAMILY = """
import os, pathlib, signal, sys
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
role = "child" if os.fork() == 0 else "parent"
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
(folder / f"{name}-{role}.new").write_text(str(os.getpid()))
(folder / f"{name}-{role}.new").rename(folder / f"{name}-{role}")
while True:
    signal.pause()
"""

# Says what happens to it, and when it is told to stop takes a while over it.
POLITE = """
import signal, sys, time
def stop(*_):
    print("stopping", flush=True)
    time.sleep(0.3)
    print("stopped", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("started", flush=True)
while True:
    signal.pause()
"""

QUICK = {"backoff_first_seconds": 0.05, "backoff_most_seconds": 0.4, "stop_seconds": 10}
Start = Callable[..., Process]


def command(name: str, code: str, *arguments: object, **fields: Any) -> dict[str, Any]:
    return {"name": name, "argv": [sys.executable, "-c", code, *map(str, arguments)], **fields}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a supervisor of the given commands; ends it with the test."""
    started: list[Process] = []

    def start_supervisor(*commands: dict[str, Any], **limits: float) -> Process:
        plan = json.dumps({"commands": commands, "limits": QUICK | limits})
        process = Process([sys.executable, "-c", RUNNER, plan], log=tmp_path / "log")
        started.append(process)
        return process.start()

    yield start_supervisor
    for process in started:
        process.kill()


def number(folder: Path, name: str) -> int:
    """The process number that a FAMILY wrote, once it did."""
    file = folder / name
    wait_for(file.exists, 10, what=f"{name} to start")
    return int(file.read_text())


def family(folder: Path, name: str) -> list[int]:
    return [number(folder, f"{name}-{role}") for role in ("parent", "child")]


def wait_until_said(process: Process, text: str, times: int = 1) -> None:
    wait_for(lambda: process.text.count(text) >= times, 10, what=f"{text!r} in {process.text!r}")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_children_and_the_code_is_0(start: Start, tmp_path: Path, how: signal.Signals) -> None:
    supervisor = start(command("one", FAMILY, tmp_path, "one"), command("two", FAMILY, tmp_path, "two"))
    children = family(tmp_path, "one") + family(tmp_path, "two")
    os.kill(supervisor.pid, how)
    assert supervisor.wait(10) == 0
    assert not any(map(is_running, children))


def test_sigkill_leaves_neither_children_nor_grandchildren(start: Start, tmp_path: Path) -> None:
    supervisor = start(command("one", FAMILY, tmp_path, "one"), command("two", FAMILY, tmp_path, "two", "--stubborn"))
    children = family(tmp_path, "one") + family(tmp_path, "two")
    os.kill(supervisor.pid, signal.SIGKILL)
    wait_for(lambda: not any(map(is_running, children)), 5, what="the end of what the supervisor had started")


def test_the_watchdog_ends_with_the_supervisor(start: Start, tmp_path: Path) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        supervisor = start(command("one", POLITE))
        wait_until_said(supervisor, "started")
        children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
        assert len(children) == 2
        os.kill(supervisor.pid, how)
        wait_for(lambda: not any(is_running(int(child)) for child in children), 5)  # noqa: B023
        supervisor.log.unlink()


def test_a_child_that_dies_is_started_again_alone(start: Start, tmp_path: Path) -> None:
    supervisor = start(command("one", FAMILY, tmp_path, "one"), command("two", FAMILY, tmp_path, "two"))
    first, two = family(tmp_path, "one"), family(tmp_path, "two")
    for file in tmp_path.glob("one-*"):
        file.unlink()
    os.kill(first[0], signal.SIGKILL)
    second = family(tmp_path, "one")
    assert not set(first) & set(second)
    assert not is_running(first[1]), "what was left of its group went with it"
    assert all(map(is_running, second + two))
    assert "one | ended by signal 9\n" in supervisor.text
    assert "two | ended" not in supervisor.text


def test_the_pause_before_a_restart_grows_to_its_bound(start: Start) -> None:
    supervisor = start(command("one", "raise SystemExit(7)"))
    wait_until_said(supervisor, "ended with exit code 7", times=5)
    pauses = [line.split()[-2] for line in supervisor.text.splitlines() if "starts again in" in line]
    assert pauses[:5] == ["0.05", "0.1", "0.2", "0.4", "0.4"]
    assert supervisor.stop(10) == 0


def test_the_pause_is_short_again_after_a_long_life(start: Start) -> None:
    supervisor = start(command("one", "pass"), backoff_reset_seconds=0.0)
    wait_until_said(supervisor, "starts again in 0.05 s", times=3)
    assert "starts again in 0.1 s" not in supervisor.text


def test_a_program_that_does_not_exist_is_tried_again(start: Start) -> None:
    supervisor = start({"name": "one", "argv": ["/no/such/program"]}, command("two", POLITE))
    wait_until_said(supervisor, "one | cannot be started:", times=2)
    wait_until_said(supervisor, "two | started")
    assert supervisor.stop(10) == 0


def test_it_ends_when_nothing_is_left_that_would_start_again(start: Start) -> None:
    supervisor = start(command("one", "print('done')", is_restarted=False))
    assert supervisor.wait(10) == 0
    assert "one | done\n" in supervisor.text


def test_a_later_stage_is_stopped_when_the_earlier_one_is_gone(start: Start) -> None:
    supervisor = start(command("broker", POLITE, stop_stage=1), command("web", POLITE), command("worker", POLITE))
    wait_until_said(supervisor, "started", times=3)
    assert supervisor.stop(10) == 0
    lines = supervisor.text.splitlines()
    assert set(lines[3:5]) == {"web    | stopping", "worker | stopping"}
    assert set(lines[5:7]) == {"web    | stopped", "worker | stopped"}
    assert lines[7:] == ["broker | stopping", "broker | stopped"]


def test_a_child_that_will_not_stop_is_killed_at_the_deadline(start: Start, tmp_path: Path) -> None:
    supervisor = start(command("one", FAMILY, tmp_path, "one", "--stubborn"), stop_seconds=0.5)
    children = family(tmp_path, "one")
    os.kill(supervisor.pid, signal.SIGTERM)
    assert supervisor.wait(10) == 0
    assert not any(map(is_running, children))


def test_a_second_ctrl_c_kills_at_once_but_one_that_comes_twice_does_not(start: Start, tmp_path: Path) -> None:
    supervisor = start(command("one", FAMILY, tmp_path, "one", "--stubborn"), command("two", POLITE))
    children = family(tmp_path, "one")
    wait_until_said(supervisor, "started")
    os.kill(supervisor.pid, signal.SIGINT)
    os.kill(supervisor.pid, signal.SIGINT)
    wait_until_said(supervisor, "two | stopped")
    time.sleep(SAME_KEYSTROKE_SECONDS)
    assert all(map(is_running, children))
    os.kill(supervisor.pid, signal.SIGINT)
    assert supervisor.wait(5) == 130
    assert not any(map(is_running, children))


def test_lines_come_whole_and_with_their_name(start: Start) -> None:
    code = "import sys, time; sys.stdout.write('a\\nb'); sys.stdout.flush(); time.sleep(0.2)\n"
    code += "sys.stdout.buffer.write(b'c\\n\\xff' + b'x' * 200_000 + b'\\nno end'); sys.stderr.write('')"
    supervisor = start(command("one", code, is_restarted=False))
    assert supervisor.wait(10) == 0
    lines = supervisor.log.read_bytes().split(b"\n")
    assert lines[:2] == [b"one | a", b"one | bc"]
    assert all(line.startswith(b"one | ") for line in lines[:-1])
    assert sum(line.count(b"x") for line in lines) >= 200_000
    assert lines[-3] == b"one | no end"


def test_ctrl_c_of_a_terminal_reaches_the_children_through_the_supervisor_only() -> None:
    plan = json.dumps({"commands": [command("one", POLITE)], "limits": QUICK})
    ours, terminal = pty.openpty()
    argv = [sys.executable, "-c", RUNNER, plan]
    login = "import os, sys, fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", login, *argv], cwd=PROJECT, stdin=terminal, stdout=terminal, start_new_session=True
    ) as process:
        os.close(terminal)
        shown = b""
        while b"started" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, b"\x03")
        assert process.wait(10) == 0
    shown += os.read(ours, 10_000)
    assert shown.count(b"stopping") == shown.count(b"stopped") == 1
    assert b"\x1b[36mone | \x1b[0m" in shown
    os.close(ours)
