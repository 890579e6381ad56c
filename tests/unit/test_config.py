"""Settings that stand in files, as secrets do, and what a worker is told to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import SettingError
from config import Settings


def test_a_file_stands_for_the_value(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pass word$\n")
    found = Settings.from_env({"SQL_DB_HOST": "db", "SQL_PASSWORD_FILE": str(tmp_path / "password")})
    assert found.SQL_PASSWORD == "pass word$"
    assert "pass%20word%24@db" in found.database_url


def test_an_empty_file_counts_as_unset(tmp_path: Path) -> None:
    (tmp_path / "slots").write_text("\n")
    default = Settings.from_env({}).SLOTS
    assert default == Settings.from_env({"SLOTS_FILE": str(tmp_path / "slots")}).SLOTS
    assert default == Settings.from_env({"SLOTS_FILE": ""}).SLOTS


def test_a_bad_value_in_a_file_is_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://user:hunter2@db/x")
    with pytest.raises(SettingError, match=r"^DATABASE_URL=\(hidden\): speaks postgresql") as caught:
        Settings.from_env({"DATABASE_URL_FILE": str(tmp_path / "url")})
    assert "hunter2" not in str(caught.value)


def test_value_and_file_at_once_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a")
    with pytest.raises(SettingError, match="METRICS_TOKEN and METRICS_TOKEN_FILE are both set"):
        Settings.from_env({"METRICS_TOKEN": "b", "METRICS_TOKEN_FILE": str(tmp_path / "token")})


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content:
        file.write_bytes(content)
    with pytest.raises(SettingError, match=r"METRICS_TOKEN_FILE='.*': "):
        Settings.from_env({"METRICS_TOKEN_FILE": str(file)})


@pytest.mark.parametrize(
    ("values", "takes_images", "builds_reports"),
    [
        ({}, True, True),
        ({"WORKER_TASKS": " , "}, True, True),
        ({"WORKER_TASKS": "images"}, True, False),
        ({"WORKER_TASKS": "reports"}, False, True),
        ({"WORKER_TASKS": "reports, images", "WORKER_LANES": "detector"}, True, True),
        ({"WORKER_TASKS": "reports", "WORKER_SOURCES": "urls"}, False, True),
        ({"WORKER_SOURCES": "urls"}, True, False),
        ({"WORKER_SOURCES": "urls,uploads", "WORKER_LANES": "plain"}, True, True),
        ({"WORKER_LANES": "detector"}, True, False),
    ],
)
def test_a_worker_does_what_its_tasks_say_and_else_what_goes_with_its_images(
    values: dict[str, str], takes_images: bool, builds_reports: bool
) -> None:
    found = Settings.from_env(values)
    assert (found.takes_images, found.builds_reports) == (takes_images, builds_reports)


def test_a_task_that_there_is_not_stops_the_start() -> None:
    with pytest.raises(SettingError, match="WORKER_TASKS='report': there is no task report; known are images, reports"):
        Settings.from_env({"WORKER_TASKS": "report"})
