"""What docker-compose.yml and the Dockerfile name is there. No container engine takes part."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import create_app
from app.cli import COMMANDS
from app.domain import images
from config import Settings

PROJECT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
EXAMPLE = dict(
    line.split("=", 1) for line in (PROJECT / "deploy/env.example").read_text().splitlines() if re.match(r"[A-Z]", line)
)
DOCKERFILE = (PROJECT / "deploy/Dockerfile").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?([^}]*)\}")


PASSWORDS = {"MYSQL_PASSWORD": "a$b:c@d/e", "MYSQL_ROOT_PASSWORD": "other", "SECRET_KEY": 24 * "0f"}


def filled_in(value: object, variables: dict[str, str]) -> str:
    """The value as compose would pass it on: ``${NAME:-default}`` and ``${NAME:?reason}`` replaced."""

    def replace(match: re.Match[str]) -> str:
        name, operator, word = match.groups()
        return variables.get(name) or (word if operator == ":-" else "")

    return VARIABLE.sub(replace, str(value))


def settings_of(name: str) -> Settings:
    return Settings.from_env(
        {key: filled_in(value, EXAMPLE | PASSWORDS) for key, value in SERVICES[name]["environment"].items()}
    )


def test_services_are_the_parts_of_the_service() -> None:
    assert set(OURS) == {"web", "worker", "recover", "migrate"}
    assert set(SERVICES) - set(OURS) == {"mysql", "redis"}


@pytest.mark.parametrize("name", OURS)
def test_environment_holds_settings_only(name: str) -> None:
    assert set(OURS[name]["environment"]) <= set(Settings.model_fields)


@pytest.mark.parametrize("name", OURS)
def test_environment_is_accepted_and_names_the_services_beside_it(name: str) -> None:
    settings = settings_of(name)
    assert settings.database_url.startswith("mysql+pymysql://imagejobs:a%24b%3Ac%40d%2Fe@mysql:3306/imagejobs")
    assert settings.REDIS_URL == "redis://redis:6379/0"
    assert settings.AUTH == "keys"
    assert settings.SLOTS == Settings.from_env({}).SLOTS


def test_variables_stand_in_the_example_and_secrets_have_no_default() -> None:
    used = {match[0]: match[1] for match in VARIABLE.findall((PROJECT / "docker-compose.yml").read_text())}
    assert set(used) == set(EXAMPLE)
    assert {name for name, operator in used.items() if operator == ":?"} == set(PASSWORDS)
    assert {EXAMPLE[name] for name in PASSWORDS} == {""}


def test_database_is_the_one_that_mysql_creates() -> None:
    ours, theirs = OURS["web"]["environment"], SERVICES["mysql"]["environment"]
    assert ours["SQL_DB_NAME"] == theirs["MYSQL_DATABASE"]
    assert ours["SQL_USERNAME"] == theirs["MYSQL_USER"]
    assert ours["SQL_PASSWORD"] == theirs["MYSQL_PASSWORD"]


def test_commands_run_what_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OURS["migrate"]["command"] == ["python", "db_create.py"]
    assert (PROJECT / "db_create.py").is_file()

    assert OURS["worker"]["command"][:5] == ["celery", "--quiet", "-A", "celery_worker", "worker"]
    monkeypatch.syspath_prepend(PROJECT)
    assert importlib.util.find_spec("celery_worker")

    assert OURS["recover"]["command"] == ["python", "-m", "app.cli", "recover"]
    assert "recover" in COMMANDS and importlib.util.find_spec("app.cli.__main__")


def test_web_server_listens_where_the_port_is_published() -> None:
    assert OURS["web"]["command"][0] == "gunicorn"
    values = {name: filled_in(value, PASSWORDS) for name, value in OURS["web"]["environment"].items()}
    # In a process of its own: what this one has imported before must not help.
    argv = [sys.executable, "-m", *OURS["web"]["command"], "--print-config"]
    done = subprocess.run(argv, cwd=PROJECT, env=os.environ | values, capture_output=True, text=True, check=True)
    assert re.search(r"^bind += \['0\.0\.0\.0:5000'\]$", done.stdout, re.MULTILINE)
    assert re.search(r"^wsgi_app += app:create_app\(\)$", done.stdout, re.MULTILINE)
    assert filled_in(OURS["web"]["ports"][0], EXAMPLE) == "127.0.0.1:5000:5000"


def test_nothing_is_published_beyond_this_host() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 1 and ports[0].startswith("127.0.0.1:")


def test_health_of_web_is_asked_at_a_route_that_exists(tmp_path: Path) -> None:
    code = OURS["web"]["healthcheck"]["test"][-1]
    compile(code, "healthcheck", "exec")
    app = create_app(Settings.from_env({"DATA_DIR": str(tmp_path)}))
    assert '"GET", "/live"' in code
    assert app.test_client().get("/live").status_code == 200


def test_tables_are_ready_before_the_rest_starts() -> None:
    for name in ("web", "worker", "recover"):
        assert OURS[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert OURS[name]["restart"] == "unless-stopped"
    assert OURS["migrate"]["depends_on"] == {"mysql": {"condition": "service_healthy"}}
    assert OURS["migrate"]["restart"] == "no"
    assert all("healthcheck" in SERVICES[name] for name in ("mysql", "redis"))


def test_workers_have_the_time_that_they_need_to_stop() -> None:
    assert int(OURS["worker"]["stop_grace_period"].removesuffix("s")) > images.STOP_SECONDS + 10


def test_workers_can_be_multiplied() -> None:
    assert not {"container_name", "ports", "hostname"} & set(OURS["worker"])


def test_databases_keep_what_they_answered() -> None:
    assert "--innodb-flush-log-at-trx-commit=1" in SERVICES["mysql"]["command"]
    assert "--character-set-server=utf8mb4" in SERVICES["mysql"]["command"]
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    volumes = [volume for name in ("mysql", "redis") for volume in SERVICES[name]["volumes"]]
    assert {volume.partition(":")[0] for volume in volumes} == set(COMPOSE["volumes"])


def copied_files() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_image_takes_files_that_exist_and_are_let_through() -> None:
    patterns = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert patterns[0] == "*"
    let_through = {pattern[1:] for pattern in patterns if pattern[0] == "!"}
    assert set(copied_files()) == let_through
    assert all((PROJECT / source).exists() for source in let_through)
    assert not any(fnmatch.fnmatch(".env", pattern) for pattern in let_through)


def test_image_holds_what_the_commands_need() -> None:
    wanted = {"app", "config.py", "celery_worker.py", "db_create.py", "migrations", OURS["web"]["command"][2]}
    assert wanted <= set(copied_files())


def test_image_runs_without_root_on_a_python_that_we_support() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001"]
    versions = set(re.findall(r"^FROM python:(\S+)-slim", DOCKERFILE, re.MULTILINE))
    required = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert versions == {required.removeprefix(">=")}


def test_packages_of_the_image_are_pinned() -> None:
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    named = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert named and all("==" in line for line in named)
