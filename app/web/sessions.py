"""The cookie that a browser keeps: signed, for this site's own requests, unreadable by scripts, by TLS where there is.

It holds the id of the key that somebody logged in with (``auth.log_in``), so a revoked key ends its sessions too.
"""

from __future__ import annotations

import os
import secrets
from datetime import timedelta
from pathlib import Path

from flask import Flask, Request, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from itsdangerous import URLSafeTimedSerializer

from app.errors import SettingError
from config import Settings

COOKIE = "imagejobs_session"
LIFETIME = timedelta(hours=24)
SECRET_FILE = "secret_key"


class Sessions(SecureCookieSessionInterface):
    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Programs send no cookie: for them no secret is needed."""
        if COOKIE not in request.cookies:
            return self.session_class()
        return super().open_session(app, request)

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        # Not sooner: commands and workers need no secret, nor a folder to keep it in.
        app.secret_key = app.secret_key or kept_secret(self._data_dir)
        return super().get_signing_serializer(app)

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def register(app: Flask, settings: Settings) -> None:
    app.secret_key = settings.SECRET_KEY or None
    app.config["SESSION_COOKIE_NAME"] = COOKIE
    app.config["SESSION_COOKIE_HTTPONLY"] = True
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.config["PERMANENT_SESSION_LIFETIME"] = LIFETIME
    app.session_interface = Sessions(settings.DATA_DIR)


def kept_secret(data_dir: Path) -> str:
    """The secret in DATA_DIR, made where there is none; of several processes that make one at once the first wins.

    Raises SettingError where none can be kept.
    """
    file = data_dir / SECRET_FILE
    try:
        if not file.exists():
            _make(file)
        return file.read_text().strip()
    except OSError as error:
        raise SettingError(f"SECRET_KEY is empty, and none can be kept in {file}: {error.strerror}") from error


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(secrets.token_hex(32) + "\n")
    try:
        os.link(temporary, file)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
