"""Units, install script: checked by systemd's and the shell's own tools, installed twice into a folder, run from there.

What systemd itself would do with them was not run: that takes a host of which it is process number 1.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import COMMANDS
from app.domain import images

PROJECT = Path(__file__).resolve().parents[2]
UNITS = sorted((PROJECT / "deploy/systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
PYTHON = "/opt/imagejobs/current/.venv/bin/python"
# systemd's own scale, from 0 (everything is locked) to 10; "OK" ends at 4.9.
MOST_EXPOSED = 1.5


def run(*argv: str | Path, env: dict[str, str] | None = None, cwd: Path = PROJECT) -> str:
    done = subprocess.run(argv, cwd=cwd, env=os.environ | (env or {}), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def command_of(service: Path) -> list[str]:
    [line] = re.findall(r"^ExecStart=(.+)$", service.read_text(), re.MULTILINE)
    return shlex.split(line)


def test_systemd_takes_every_unit(tmp_path: Path) -> None:
    for unit in UNITS:
        # Where nothing is installed, this project stands for what would be.
        text = unit.read_text().replace(PYTHON, sys.executable).replace("/opt/imagejobs/current", str(PROJECT))
        (tmp_path / unit.name).write_text(text)
    names = [unit.name.replace("@.", "@1.") for unit in UNITS]
    assert run("systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in names)) == ""


@pytest.mark.parametrize("service", SERVICES, ids=lambda unit: unit.name)
def test_services_can_reach_little_of_their_host(service: Path) -> None:
    threshold = str(int(10 * MOST_EXPOSED))
    run("systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={threshold}", service)


@pytest.mark.parametrize("service", SERVICES, ids=lambda unit: unit.name)
def test_services_run_what_exists(service: Path) -> None:
    python, module_flag, module, *words = command_of(service)
    assert (python, module_flag) == (PYTHON, "-m")
    assert module in ("gunicorn", "celery", "app.cli")
    if module == "app.cli":
        assert words[0] in COMMANDS
        run(sys.executable, "-m", module, *words, "--help")
    if module == "gunicorn":
        assert (PROJECT / words[words.index("--config") + 1]).is_file()


def test_parts_that_work_have_the_time_that_they_need_to_stop_and_come_back_when_they_end() -> None:
    for service in SERVICES:
        text = service.read_text()
        if "Type=oneshot" in text:
            continue
        assert "Restart=always" in text and "StartLimitIntervalSec=0" in text
        [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
        assert int(seconds) > images.STOP_SECONDS + 10


def test_every_part_belongs_to_the_target() -> None:
    for unit in UNITS:
        text = unit.read_text()
        if unit.suffix != ".target" and "Type=oneshot" not in text:
            assert "PartOf=imagejobs.target" in text and "WantedBy=imagejobs.target" in text


def test_scripts_are_sound() -> None:
    scripts = [
        PROJECT / name for name in ("deploy/install.sh", "deploy/secrets.sh", "deploy/venv.sh", "testbed/install.sh")
    ]
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, "shellcheck is not installed; make install-dev installs it"
    # SC2016: single quotes keep a $ for somebody else to read, on purpose.
    run(program, "--exclude=SC2016", *scripts)


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time of the last change and content of every file and link."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, content)
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    run(PROJECT / "deploy/install.sh", env={"DESTDIR": str(folder)})
    return folder


def test_a_second_run_changes_nothing(installed: Path) -> None:
    before = snapshot(installed)
    said = run(PROJECT / "deploy/install.sh", env={"DESTDIR": str(installed)})
    assert snapshot(installed) == before
    assert said == "imagejobs: nothing was started, since DESTDIR is set\n"


def test_what_an_operator_changed_is_left_alone(installed: Path) -> None:
    settings, site = installed / "etc/imagejobs/imagejobs.env", installed / "etc/nginx/sites-available/imagejobs"
    for file in (settings, site):
        file.write_text(file.read_text() + "# mine\n")
    said = run(PROJECT / "deploy/install.sh", env={"DESTDIR": str(installed)})
    assert settings.read_text().endswith("# mine\n") and site.read_text().endswith("# mine\n")
    assert "was changed by hand" in said
    assert (installed / "etc/nginx/sites-available/imagejobs.new").is_file()


def test_secrets_are_drawn_anew_for_every_host_and_kept_from_others(installed: Path, tmp_path: Path) -> None:
    run(PROJECT / "deploy/install.sh", "--no-web", env={"DESTDIR": str(tmp_path)})
    for name in ("secret_key", "metrics_token"):
        ours, theirs = (folder / "etc/imagejobs" / name for folder in (installed, tmp_path))
        assert re.fullmatch(r"[0-9a-f]{64}", ours.read_text())
        assert ours.read_text() != theirs.read_text()
        assert stat.S_IMODE(ours.stat().st_mode) == 0o640
    assert not (tmp_path / "etc/nginx").exists()


def test_the_site_has_no_hole_left(installed: Path) -> None:
    site = (installed / "etc/nginx/sites-available/imagejobs.shipped").read_text()
    assert "${" not in site
    assert "server unix:/run/imagejobs/web.sock;" in site
    web = (PROJECT / "deploy/systemd/imagejobs-web.service").read_text()
    assert "--bind unix:/run/imagejobs/web.sock" in web and "RuntimeDirectory=imagejobs\n" in web


def test_the_release_holds_what_the_service_needs(installed: Path, tmp_path: Path) -> None:
    current = installed / "opt/imagejobs/current"
    assert not list(current.rglob("__pycache__"))
    secrets = installed / "etc/imagejobs"
    lines = (secrets / "imagejobs.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]", line))
    settings = {name: value.replace("/etc/imagejobs", str(secrets)) for name, value in settings.items()}
    env = settings | {"DATA_DIR": str(tmp_path), "PYTHONPATH": str(current), "PYTHONDONTWRITEBYTECODE": "1"}
    run(sys.executable, "db_create.py", env=env, cwd=current)
    run(sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "--check-config", env=env, cwd=current)
    key = run(sys.executable, "-m", "app.cli", "keys", "create", "--scope", "admin", env=env, cwd=current)
    assert key.startswith("ij_")
    where = "import app; print(app.__file__)"
    assert Path(run(sys.executable, "-c", where, env=env, cwd=current).strip()).is_relative_to(current.resolve())
