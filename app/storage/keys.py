"""The names of files: of our making, random, so that nobody guesses one, and of one pattern, so that none strays."""

from __future__ import annotations

import re
import uuid

MOST_CHARACTERS = 255  # the column that keeps a key is this wide
# Lower case only: some file systems take ``A`` and ``a`` for one. No part begins with a dot.
KEY = re.compile(r"[a-z0-9][a-z0-9_-]*(?:/[a-z0-9][a-z0-9_-]*)+(?:\.[a-z0-9]{1,8}){0,2}", re.ASCII)
SHARD_CHARACTERS = 2  # 256 folders under each prefix, so that none holds millions of files


def new_key(prefix: str, suffix: str = "") -> str:
    """A key that nobody can guess, e.g. ``images/3f/3f09...c1.jpg``; ``suffix`` has its dot."""
    name = uuid.uuid4().hex
    return checked(f"{prefix}/{name[:SHARD_CHARACTERS]}/{name}{suffix}")


def is_key(key: str) -> bool:
    return len(key) <= MOST_CHARACTERS and KEY.fullmatch(key) is not None


def checked(key: str) -> str:
    """``key`` itself. Raises ValueError, which is a mistake of ours: no client's words get here."""
    if not is_key(key):
        raise ValueError(f"not a key of a stored file: {key[:100]!r}")
    return key
