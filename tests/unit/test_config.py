"""Settings that stand in files, as secrets do."""

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
