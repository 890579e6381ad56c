"""The programs that this service is compared with, in an environment of their own: their packages must not be ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from testbed.processes import PROJECT

FOLDER = PROJECT / "build" / "bench"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
INSTALLED = FOLDER / "installed.txt"  # a copy of the requirements that it was made from
INSTALL_SECONDS = 600.0


def program(name: str) -> Path:
    return FOLDER / "bin" / name


def is_installed() -> bool:
    return INSTALLED.exists() and INSTALLED.read_bytes() == REQUIREMENTS.read_bytes()


def install(tell: Callable[[str], None]) -> bool:
    """Make the environment, once; False where that cannot be done, which is told: the rest is measured all the same."""
    if is_installed():
        return True
    tell("installing what this service is compared with into build/bench")
    try:
        _run(sys.executable, "-m", "venv", "--clear", str(FOLDER))
        _run(str(program("python")), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS))
    except (OSError, subprocess.SubprocessError) as error:
        tell(f"img2dataset and aiohttp are not measured, they cannot be installed: {_reason(error)}")
        return False
    INSTALLED.write_bytes(REQUIREMENTS.read_bytes())
    return True


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)


def _reason(error: Exception) -> str:
    last = (getattr(error, "stderr", None) or "").strip().splitlines()[-1:]
    return "".join(last) or str(error)
