"""Hosts made of network namespaces: one is the *core*, the others hang on its bridge by a cable each. Needs root.

What listens in the core is seen by these hosts and by nobody else. Linux, with ``ip`` of iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

NETWORK, CORE_ADDRESS = "10.77.0.0/24", "10.77.0.1"
BRIDGE = "bridge"


@dataclass(frozen=True)
class Host:
    """``namespace`` is its name for ``ip netns``, ``cable`` the core's end of its cable."""

    name: str
    namespace: str
    cable: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """What a command is put behind to run on this host."""
        return ["ip", "netns", "exec", self.namespace]

    def cut_off(self) -> None:
        """Take its link down; called in the core."""
        _ip("link", "set", self.cable, "down")

    def connect(self) -> None:
        _ip("link", "set", self.cable, "up")


def why_not() -> str:
    """Why no namespaces can be made here; empty where they can."""
    if os.getuid():
        return "it needs root"
    if not shutil.which("ip"):
        return "there is no ip command (iproute2)"
    name = f"ij{os.getpid()}-probe"
    try:
        _ip("netns", "add", name)
        _ip("-n", name, "link", "add", "one", "type", "veth", "peer", "name", "two")
        _ip("-n", name, "link", "add", BRIDGE, "type", "bridge")
    except RuntimeError as error:
        return str(error)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
    return ""


def plan(tag: str, names: Sequence[str]) -> list[Host]:
    """The hosts of a run: the same names give the same hosts, in and out of the core."""
    return [Host(name, f"{tag}-{name}", f"to-{name}", f"10.77.0.{10 + place}") for place, name in enumerate(names)]


@contextmanager
def running(tag: str, hosts: Sequence[Host]) -> Iterator[list[str]]:
    """Core, bridge and hosts as long as the block runs; gives what puts a command into the core."""
    core = f"{tag}-core"
    try:
        _ip("netns", "add", core)
        _ip("-n", core, "link", "set", "lo", "up")
        _ip("-n", core, "link", "add", BRIDGE, "type", "bridge")
        _ip("-n", core, "address", "add", f"{CORE_ADDRESS}/24", "dev", BRIDGE)
        _ip("-n", core, "link", "set", BRIDGE, "up")
        for host in hosts:
            _ip("netns", "add", host.namespace)
            _ip("-n", core, "link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("-n", core, "link", "set", host.cable, "master", BRIDGE, "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
        yield ["ip", "netns", "exec", core]
    finally:
        for namespace in [core, *(host.namespace for host in hosts)]:
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
