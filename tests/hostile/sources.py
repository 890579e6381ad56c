"""Pillow's own test images and PngSuite, out of the source distributions on PyPI, kept in ``build/hostile``."""

from __future__ import annotations

import ast
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import PIL

from testbed.processes import PROJECT

CACHE = PROJECT / "build" / "hostile"
PILLOW = f"pillow-{PIL.__version__}"
# The last release whose source distribution holds PngSuite (as a Python module of hexadecimal strings).
PYPNG = "pypng-0.20220715.0"


def find() -> dict[str, bytes]:
    """All images by name; downloads them the first time (47 MB, two minutes: pip prepares a build of Pillow)."""
    return dict(_pillow(_archive(PILLOW))) | dict(_pngsuite(_archive(PYPNG)))


def _archive(name: str) -> Path:
    path = CACHE / f"{name}.tar.gz"
    if not path.exists():
        print(f"Fetching {name} ...", flush=True)
        wanted = "==".join(name.split("-"))
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*argv, "--no-binary", ":all:", "--dest", str(CACHE), wanted], check=True)
    return path


def _pillow(archive: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive) as files:
        for member in files:
            if member.isfile() and "/Tests/" in member.name and not member.name.endswith(".py"):
                file = files.extractfile(member)
                assert file is not None
                yield member.name, file.read()


def _pngsuite(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The module's dictionary: every name with the bytes literal that follows it. Read, not run."""
    with tarfile.open(archive) as files:
        file = files.extractfile(f"{PYPNG}/code/pngsuite.py")
        assert file is not None
        module = ast.parse(file.read())
    for node in ast.walk(module):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Call):
                    yield f"pngsuite/{key.value}.png", bytes.fromhex(value.args[0].value.decode())  # type: ignore
