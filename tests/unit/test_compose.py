"""What docker-compose.yml and the Dockerfile name is there. No container engine takes part."""

from __future__ import annotations

import fnmatch
import importlib.util
import ipaddress
import os
import re
import shutil
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
from app.models import JobSource
from config import Settings

PROJECT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "imagejobs"}
WORKERS = [name for name in OURS if name.startswith("worker")]
LANES = ("plain", "detector")
WEBS = [name for name in OURS if name.startswith("web")]
EXAMPLE = dict(
    line.split("=", 1) for line in (PROJECT / "deploy/env.example").read_text().splitlines() if re.match(r"[A-Z]", line)
)
DOCKERFILE = (PROJECT / "deploy/Dockerfile").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?([^}]*)\}")


def filled_in(value: object, variables: dict[str, str]) -> str:
    """The value as compose would pass it on: ``${NAME:-default}`` and ``${NAME:?reason}`` replaced."""

    def replace(match: re.Match[str]) -> str:
        name, operator, word = match.groups()
        return variables.get(name) or (word if operator == ":-" else "")

    return VARIABLE.sub(replace, str(value))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that deploy/secrets.sh makes."""
    folder = tmp_path_factory.mktemp("compose")
    shutil.copytree(PROJECT / "deploy", folder / "deploy")
    subprocess.run([folder / "deploy/secrets.sh"], check=True, stdout=subprocess.DEVNULL)
    return folder / "secrets"


def environment_of(name: str, secrets: Path, **variables: str) -> dict[str, str]:
    found = {key: filled_in(value, EXAMPLE | variables) for key, value in SERVICES[name]["environment"].items()}
    return {key: value.replace("/run/secrets", str(secrets)) for key, value in found.items()}


def compose(secrets: Path, *words: str) -> set[str]:
    """The services that there are with these options."""
    shutil.copy(PROJECT / "docker-compose.yml", secrets.parent)
    example = (PROJECT / "deploy/env.example").read_text().replace("COMPOSE_PROFILES=all", "")
    (secrets.parent / ".env").write_text(example)
    program = shutil.which("docker-compose")
    assert program, "docker-compose is not installed; testbed/install.sh installs it"
    argv = [program, *words, "config", "--services"]
    done = subprocess.run(argv, cwd=secrets.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_compose_reads_the_file(secrets: Path) -> None:
    profiles = sorted({profile for service in SERVICES.values() for profile in service.get("profiles", [])})
    assert compose(secrets, *(word for profile in profiles for word in ("--profile", profile))) == set(SERVICES)


def test_services_are_the_parts_of_the_service() -> None:
    assert set(OURS) - {*WORKERS, *WEBS} == {"recover", "deliver", "purge", "migrate"}
    assert set(SERVICES) - set(OURS) == {"nginx", "mysql", "redis", "flower", "prometheus", "grafana"}


@pytest.mark.parametrize("name", OURS)
def test_environment_holds_settings_only(name: str) -> None:
    known = set(Settings.model_fields)
    assert {key if key in known else key.removesuffix("_FILE") for key in OURS[name]["environment"]} <= known


@pytest.mark.parametrize("name", OURS)
def test_environment_is_accepted_and_names_the_services_beside_it(name: str, secrets: Path) -> None:
    settings = Settings.from_env(environment_of(name, secrets))
    password = (secrets / "mysql_password").read_text()
    assert settings.database_url.startswith(f"mysql+pymysql://imagejobs:{password}@mysql:3306/imagejobs")
    assert settings.REDIS_URL == "redis://redis:6379/0"
    assert settings.AUTH == "keys"
    assert len(settings.SECRET_KEY) == len(settings.METRICS_TOKEN) == 64
    assert settings.SLOTS == Settings.from_env({}).SLOTS


def test_secrets_are_files_of_their_own_and_never_values(secrets: Path) -> None:
    declared = COMPOSE["secrets"]
    assert {secret["file"] for secret in declared.values()} == {f"./secrets/{name}" for name in declared}
    assert {path.name for path in secrets.iterdir()} == set(declared)
    for name, service in SERVICES.items():
        assert set(service.get("secrets", [])) <= set(declared), name
        for key, value in service.get("environment", {}).items():
            if "/run/secrets/" in str(value):
                assert Path(value).name in service["secrets"], (name, key)
            else:
                assert not re.search("PASSWORD|SECRET|TOKEN", key), (name, key)
    assert secrets.stat().st_mode & 0o077 == 0


def test_a_second_run_keeps_the_secrets(secrets: Path) -> None:
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    subprocess.run([secrets.parent / "deploy/secrets.sh"], check=True)
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before
    assert len(set(before.values())) == len(before)


def test_variables_stand_in_the_example() -> None:
    used = {match[0] for match in VARIABLE.findall((PROJECT / "docker-compose.yml").read_text())}
    assert used | {"COMPOSE_PROFILES"} == set(EXAMPLE)


def test_database_is_the_one_that_mysql_creates() -> None:
    ours, theirs = OURS["web"]["environment"], SERVICES["mysql"]["environment"]
    assert ours["SQL_DB_NAME"] == theirs["MYSQL_DATABASE"]
    assert ours["SQL_USERNAME"] == theirs["MYSQL_USER"]
    assert ours["SQL_PASSWORD_FILE"] == theirs["MYSQL_PASSWORD_FILE"]


def test_every_door_can_have_web_servers_and_workers_of_its_own() -> None:
    for names, setting in ((WORKERS, "WORKER_SOURCES"), (WEBS, "WEB_DOORS")):
        by_profile = {profile: OURS[name]["environment"] for name in names for profile in OURS[name]["profiles"]}
        assert set(by_profile) - {"reports"} == {"all", *JobSource, *LANES}
        assert not {setting, "WORKER_LANES"} & set(by_profile["all"])
        assert all(by_profile[source][setting] == source for source in JobSource)


def test_every_lane_can_have_workers_of_its_own() -> None:
    for lane in LANES:
        assert OURS[f"worker-{lane}"]["environment"]["WORKER_LANES"] == lane
        assert OURS[f"worker-{lane}"]["profiles"] == [lane]


def test_reports_can_have_workers_of_their_own_and_the_others_leave_them_to_these(secrets: Path) -> None:
    assert OURS["worker-reports"]["profiles"] == ["reports"]
    others = [name for name in WORKERS if name != "worker-reports"]
    alone = Settings.from_env(environment_of("worker-reports", secrets))
    assert (alone.takes_images, alone.builds_reports) == (False, True)
    for name in others:
        settings = Settings.from_env(environment_of(name, secrets))
        assert settings.takes_images, name
        told = Settings.from_env(environment_of(name, secrets, WORKER_TASKS="images"))
        assert (told.takes_images, told.builds_reports) == (True, False), name
    assert Settings.from_env(environment_of("worker", secrets)).builds_reports
    assert Settings.from_env(environment_of("worker-reports", secrets, WORKER_TASKS="images")) == alone


def test_nothing_waits_for_what_only_some_profiles_have() -> None:
    """Compose refuses the file where a service that is chosen waits for one that is not."""
    for name, service in SERVICES.items():
        for other in service.get("depends_on", {}):
            assert set(SERVICES[other].get("profiles", [])) <= set(service.get("profiles", [])), name


def test_nginx_finds_the_web_servers_of_every_door() -> None:
    environment = SERVICES["nginx"]["environment"]
    for name in WEBS:
        assert OURS[name]["networks"]["front"] == {"aliases": ["web"]}
    for source in JobSource:
        assert environment[f"IMAGEJOBS_SERVER_{source.upper()}"] == f"${{WEB_{source.upper()}:-web:5000}}"


def test_web_believes_nginx_and_nobody_else() -> None:
    nginx = SERVICES["nginx"]
    front = COMPOSE["networks"]["front"]
    address = ipaddress.ip_address(nginx["networks"]["front"]["ipv4_address"])
    assert address in ipaddress.ip_network(front["ipam"]["config"][0]["subnet"])
    for name in WEBS:
        assert OURS[name]["environment"]["TRUSTED_PROXIES"] == str(address)
        # By no other network do they see each other: there nginx would have another address.
        assert set(nginx["networks"]) & set(OURS[name]["networks"]) == {"front"}


def test_databases_have_no_way_out() -> None:
    assert SERVICES["mysql"]["networks"] == SERVICES["redis"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


def test_nothing_runs_with_more_than_it_needs() -> None:
    for name, service in SERVICES.items():
        assert "mem_limit" in service and (service["restart"] == "unless-stopped" or name == "migrate"), name
        if name not in ("mysql", "redis"):
            assert service["read_only"] and service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name


def test_site_finds_what_it_is_told_of() -> None:
    site = (PROJECT / "deploy/nginx/imagejobs.conf.template").read_text()
    environment = SERVICES["nginx"]["environment"]
    assert set(re.findall(r"\$\{(IMAGEJOBS_\w+)\}", site)) == set(environment)
    location = OURS["web"]["environment"]["FILES_NGINX_LOCATION"]
    assert f"location {location} {{\n        internal;" in site
    data_dir = OURS["web"]["environment"]["DATA_DIR"]
    assert environment["IMAGEJOBS_FILES"] == f"{data_dir}/files"
    assert f"data:{data_dir}:ro" in SERVICES["nginx"]["volumes"]
    for volume in [each for service in SERVICES.values() for each in service.get("volumes", [])]:
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or (PROJECT / source).is_file(), volume


def test_commands_run_what_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OURS["migrate"]["command"] == ["python", "db_create.py"]
    assert (PROJECT / "db_create.py").is_file()

    assert OURS["worker"]["command"][:5] == ["celery", "--quiet", "-A", "celery_worker", "worker"]
    monkeypatch.syspath_prepend(PROJECT)
    assert importlib.util.find_spec("celery_worker")

    assert OURS["recover"]["command"] == ["python", "-m", "app.cli", "recover"]
    assert OURS["deliver"]["command"] == ["python", "-m", "app.cli", "deliver"]
    assert {"recover", "deliver"} <= set(COMMANDS) and importlib.util.find_spec("app.cli.__main__")


def test_web_server_listens_where_nginx_comes_to(secrets: Path) -> None:
    assert OURS["web"]["command"][0] == "gunicorn"
    values = environment_of("web", secrets)
    # In a process of its own: what this one has imported before must not help.
    argv = [sys.executable, "-m", *OURS["web"]["command"], "--print-config"]
    done = subprocess.run(argv, cwd=PROJECT, env=os.environ | values, capture_output=True, text=True, check=True)
    assert re.search(r"^bind += \['0\.0\.0\.0:5000'\]$", done.stdout, re.MULTILINE)
    assert re.search(r"^wsgi_app += app:create_app\(\)$", done.stdout, re.MULTILINE)
    assert SERVICES["nginx"]["environment"]["IMAGEJOBS_SERVER"] == "web:5000"


def test_only_nginx_is_published_beyond_this_host() -> None:
    for name, service in SERVICES.items():
        ports = [filled_in(port, EXAMPLE) for port in service.get("ports", [])]
        assert name == "nginx" or all(port.startswith("127.0.0.1:") for port in ports), name
    assert SERVICES["nginx"]["ports"] == ["${HTTP_PORT:-80}:8080", "${HTTPS_PORT:-443}:8443"]


def test_health_of_web_is_asked_at_a_route_that_exists(tmp_path: Path) -> None:
    code = OURS["web"]["healthcheck"]["test"][-1]
    compile(code, "healthcheck", "exec")
    app = create_app(Settings.from_env({"DATA_DIR": str(tmp_path)}))
    assert '"GET", "/live"' in code
    assert app.test_client().get("/live").status_code == 200


def test_tables_are_ready_before_the_rest_starts() -> None:
    for name in (*WORKERS, *WEBS, "recover", "deliver", "purge"):
        assert OURS[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert OURS[name]["restart"] == "unless-stopped"
    assert OURS["migrate"]["depends_on"] == {"mysql": {"condition": "service_healthy"}}
    assert OURS["migrate"]["restart"] == "no"
    assert all("healthcheck" in SERVICES[name] for name in ("mysql", "redis", "web", "nginx"))


def test_workers_have_the_time_that_they_need_to_stop() -> None:
    assert int(OURS["worker"]["stop_grace_period"].removesuffix("s")) > images.STOP_SECONDS + 10


def test_workers_can_be_multiplied() -> None:
    assert not [name for name in WORKERS if {"container_name", "ports", "hostname"} & set(OURS[name])]


def test_databases_keep_what_they_answered() -> None:
    assert "--innodb-flush-log-at-trx-commit=1" in SERVICES["mysql"]["command"]
    assert "--character-set-server=utf8mb4" in SERVICES["mysql"]["command"]
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert SERVICES["mysql"]["volumes"] == ["mysql:/var/lib/mysql"]
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]


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
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10002", "10001"]
    versions = set(re.findall(r"^FROM python:(\S+)-slim", DOCKERFILE, re.MULTILINE))
    required = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert versions == {required.removeprefix(">=")}


def test_packages_of_the_image_are_pinned() -> None:
    for file in ("requirements.txt", "deploy/flower.txt"):
        lines = (PROJECT / file).read_text().splitlines()
        named = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        assert named and all("==" in line for line in named)


def test_hadolint_has_nothing_to_say() -> None:
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("hadolint's wheel is for Linux on x86_64")
    done = subprocess.run([program, PROJECT / "deploy/Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
