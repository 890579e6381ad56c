"""The machine that a figure was measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pycurl

from bench.servers import Servers

PACKAGES = ("celery", "sqlalchemy", "pillow", "pycurl", "gunicorn")


def describe() -> str:
    """Processor, cores, memory and kernel in one line."""
    cores, memory = os.cpu_count(), _first("/proc/meminfo", "MemTotal").split()[0]
    return (
        f"{_first('/proc/cpuinfo', 'model name')}, {cores} cores, {int(memory) / 1024**2:.0f} GB of memory, "
        f"{platform.system()} {platform.release()}"
    )


def versions(servers: Servers) -> str:
    """What ran on it, in one line."""
    return ", ".join(_versions(servers))


def _versions(servers: Servers) -> Iterator[str]:
    [(mariadb,)] = servers.mariadb.execute("SELECT VERSION()")
    with servers.redis.client() as client:
        redis = client.info("server")["redis_version"]
    yield from (f"Python {platform.python_version()}", f"MariaDB {mariadb.split('-')[0]}", f"Redis {redis}")
    yield from (f"{name} {version(name)}" for name in PACKAGES)
    yield pycurl.version.split()[1].replace("/", " ")


def _first(file: str, name: str) -> str:
    """The value of the first ``name : value`` line of a file of /proc."""
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
