"""PyMySQL without the RSA that it takes along for servers which ask for it: loaded when one does.

That is one that asks for ``caching_sha2_password`` (MySQL 8) or ``sha256_password``, over a connection without TLS, of
an account that it has not in its cache. Some 8 MB in every worker process otherwise.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from app.later import Later

_FIRST = "cryptography.hazmat.backends"  # of what PyMySQL imports of it


def load_when_needed() -> None:
    """To be called before PyMySQL is imported; does nothing where it, or that part of it, is there already."""
    if "pymysql" in sys.modules or _FIRST in sys.modules:
        return
    sys.modules[_FIRST] = None  # type: ignore[assignment]
    try:
        auth: Any = import_module("pymysql._auth")
    finally:
        del sys.modules[_FIRST]
    for name in ("hashes", "serialization", "asymmetric.padding"):
        setattr(auth, name.rpartition(".")[2], Later(f"cryptography.hazmat.primitives.{name}"))
    auth.default_backend = _default_backend
    auth._have_cryptography = True


def _default_backend() -> Any:
    return import_module(_FIRST).default_backend()
