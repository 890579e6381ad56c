"""Modules that are loaded when something of them is first used: what most processes never need costs them nothing.

A worker process that only reads headers is spared 25 MB: numpy and the like are used by its children, which decode.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """Stands for a module. Loading is Python's own, so that several threads may be the first; errors are the module's.

    To the type checker the module itself is shown, see any place that uses this.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(import_module(self._name), attribute)
        setattr(self, attribute, value)  # asked for once
        return value
