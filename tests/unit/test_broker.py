"""The embedded broker, started for real."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from kombu import Connection

from app import broker
from app.errors import SettingError
from testbed.processes import PROJECT, is_running, wait_for

# Runs the broker of a folder, says the server's number, then waits to be killed.
HOLDER = """
import pathlib, signal, sys
from app import broker
with broker.running(pathlib.Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    signal.pause()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the broker of tmp_path."""
    argv = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def server_of(holder: subprocess.Popen[str]) -> int:
    assert holder.stdout is not None
    return int(holder.stdout.readline())


def test_redis_and_celery_reach_it_by_their_addresses(tmp_path: Path) -> None:
    with broker.running(tmp_path):
        with redis.Redis.from_url(broker.client_url("", tmp_path)) as client:
            assert client.ping()
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        with Connection(broker.celery_url("", tmp_path)) as connection:
            queue = connection.SimpleQueue("bells")
            queue.put({"ring": 1})
            assert queue.get(timeout=5).payload == {"ring": 1}
            queue.close()


def test_a_configured_broker_is_taken_as_it_is(tmp_path: Path) -> None:
    assert broker.celery_url("redis://host:1/2", tmp_path) == "redis://host:1/2"
    assert broker.client_url("rediss://host:1/2", tmp_path) == "rediss://host:1/2"
    assert broker.client_url("redis+socket:///a/b.sock?virtual_host=3", tmp_path) == "unix:///a/b.sock?db=3"
    assert broker.client_url("redis+socket:///a/b.sock", tmp_path) == "unix:///a/b.sock?db=0"


def test_no_tcp_port_is_open(tmp_path: Path) -> None:
    with broker.running(tmp_path) as server:
        sockets = {os.readlink(link) for link in Path(f"/proc/{server.pid}/fd").iterdir()}
        inodes = {link.removeprefix("socket:[").rstrip("]") for link in sockets if link.startswith("socket:")}
        listening = [line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert not inodes & set(listening)


def test_messages_outlive_a_restart(tmp_path: Path) -> None:
    for expected in (None, b"kept"):
        with broker.running(tmp_path), redis.Redis.from_url(broker.client_url("", tmp_path)) as client:
            assert client.get("key") == expected
            client.set("key", "kept")


def test_it_is_found_only_while_it_runs(tmp_path: Path) -> None:
    assert broker.find(tmp_path) is None
    with broker.running(tmp_path) as server:
        assert broker.find(tmp_path) == broker.socket_path(tmp_path)
        assert is_running(server.pid)
    assert broker.find(tmp_path) is None
    assert not is_running(server.pid)


def test_data_dirs_may_lie_deep_and_have_odd_names(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a folder with ümläuts & a ? in its name"] * 5)
    with broker.running(deep), redis.Redis.from_url(broker.client_url("", deep)) as client:
        assert client.ping()
    assert len(str(broker.socket_path(deep))) <= 107


def test_the_same_folder_by_another_path_is_the_same_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert broker.celery_url("", Path("var")) == broker.celery_url("", tmp_path / "x" / ".." / "var")
    assert broker.celery_url("", Path("var")) != broker.celery_url("", Path("other"))


def test_a_second_service_with_the_same_data_dir_is_refused(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    server = server_of(holder)
    with pytest.raises(SettingError, match="another service runs with DATA_DIR"), broker.running(tmp_path):
        pass
    assert is_running(server)
    assert broker.find(tmp_path)


def test_sigkill_of_the_parent_ends_it_and_its_socket_is_taken_over(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    server = server_of(holder)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    wait_for(lambda: not is_running(server), 5, what="the broker's end")
    assert broker.socket_path(tmp_path).exists()
    with broker.running(tmp_path):
        assert broker.find(tmp_path)


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "RUNTIME_ROOT", tmp_path)
    broker.socket_path(tmp_path).parent.mkdir(mode=0o755)
    with pytest.raises(SettingError, match="no other user may enter"):
        broker.socket_path(tmp_path)


def test_a_server_that_cannot_start_is_reported(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "appendonlydir").write_text("in the way")
    with pytest.raises(SettingError, match="did not start"), broker.running(tmp_path):
        pass
