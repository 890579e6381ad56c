"""What is refused whoever asks: other hosts while AUTH=open, and pages of other sites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import request
from flask.testing import FlaskClient

from app import create_app
from app.errors import SettingError
from app.web.auth import public
from app.web.sessions import SECRET_FILE, kept_secret
from config import Settings


@pytest.fixture
def make_client(tmp_path: Path) -> Callable[..., FlaskClient]:
    def make(**changes: str) -> FlaskClient:
        app = create_app(Settings.from_env({"DATA_DIR": str(tmp_path)} | changes))

        @app.route("/seen", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
        @public
        def seen() -> dict[str, Any]:
            return {"address": request.remote_addr, "scheme": request.scheme}

        return app.test_client()

    return make


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client()


def test_a_request_from_this_host_is_served(client: FlaskClient) -> None:
    for address in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"):
        assert client.get("/seen", environ_base={"REMOTE_ADDR": address}).status_code == 200


@pytest.mark.parametrize("address", ["10.0.0.5", "192.168.1.2", "::ffff:10.0.0.5", "fe80::1", "8.8.8.8", "", "0.0.0.0"])
def test_a_request_from_elsewhere_is_refused(client: FlaskClient, address: str) -> None:
    for path in ("/seen", "/health", "/live", "/docs", "/api/jobs", "/no/such/address"):
        answer = client.get(path, environ_base={"REMOTE_ADDR": address})
        assert answer.status_code == 403
        assert "AUTH=open" in answer.json["error"]


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-For", "X-Forwarded-Host", "x-forwarded-proto", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Port"],
)
def test_behind_a_proxy_nothing_is_taken_for_this_host(make_client: Callable[..., FlaskClient], name: str) -> None:
    for client in (make_client(), make_client(TRUSTED_PROXIES="127.0.0.1,unix")):
        answer = client.get("/seen", headers={name: "127.0.0.1"})
        assert answer.status_code == 403
        assert "proxy" in answer.json["error"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost", "LOCALHOST:5000", "jobs.localhost", "localhost.", "127.0.0.1:80")),
        *((host, 200) for host in ("[::1]:5000", "127.8.9.1")),
        *((host, 403) for host in ("evil.example", "evil.example:5000", "localhost.evil.example", "127.0.0.1.nip.io")),
        *((host, 403) for host in ("10.0.0.1", "evillocalhost", "", "[::ffff:8.8.8.8]", "localhost@evil.example")),
    ],
)
def test_a_name_that_was_pointed_at_this_host_is_refused(client: FlaskClient, host: str, status: int) -> None:
    assert client.get("/seen", headers={"Host": host}).status_code == status


SITES = [
    ({}, 200),
    ({"Sec-Fetch-Site": "same-origin"}, 200),
    ({"Sec-Fetch-Site": "none"}, 200),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "odd"}, 403),
    ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
    ({"Origin": "http://localhost"}, 200),
    ({"Origin": "https://localhost"}, 200),
    ({"Origin": "http://localhost:80"}, 200),
    ({"Origin": "http://localhost:5001"}, 403),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "http://localhost.evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": ""}, 403),
    ({"Origin": "http://["}, 403),
    ({"Origin": "file://localhost"}, 403),
    ({"Origin": "http://localhost:5000", "Host": "localhost:5000"}, 200),
    ({"Origin": "http://[::1]:5000", "Host": "[::1]:5000"}, 200),
    ({"Origin": "http://127.0.0.1:5000", "Host": "localhost:5000"}, 403),
]


@pytest.mark.parametrize(("headers", "status"), SITES)
@pytest.mark.parametrize("mode", ["open", "keys"])
def test_a_page_of_another_site_changes_nothing(
    make_client: Callable[..., FlaskClient], mode: str, headers: dict[str, str], status: int
) -> None:
    client = make_client(AUTH=mode)
    for method in ("post", "put", "patch", "delete"):
        answer = getattr(client, method)("/seen", headers=headers, data="{}", content_type="text/plain")
        assert answer.status_code == status, method
    assert client.get("/seen", headers=headers).status_code == 200


def test_with_keys_the_place_does_not_count(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(AUTH="keys", HOST="0.0.0.0")
    headers = {"Host": "jobs.example", "X-Forwarded-For": "127.0.0.1"}
    seen = client.get("/seen", headers=headers, environ_base={"REMOTE_ADDR": "10.0.0.5"})
    assert seen.json == {"address": "10.0.0.5", "scheme": "http"}


@pytest.mark.parametrize(
    ("peer", "claimed", "address"),
    [
        ("10.1.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.1.0.1", "127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("10.1.0.1", "6.6.6.6, 203.0.113.9, 10.1.0.2", "203.0.113.9"),
        ("10.1.0.1", "", "10.1.0.1"),
        ("10.1.0.1", "nonsense", "10.1.0.1"),
        ("10.1.0.1", "203.0.113.9, nonsense", "10.1.0.1"),
        ("10.1.0.1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.1.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.2.0.1", "203.0.113.9", "10.2.0.1"),
        ("", "203.0.113.9", "203.0.113.9"),
    ],
)
def test_a_trusted_proxy_is_believed_and_nobody_else(
    make_client: Callable[..., FlaskClient], peer: str, claimed: str, address: str
) -> None:
    client = make_client(AUTH="keys", TRUSTED_PROXIES="10.1.0.0/16, unix")
    headers = {"X-Forwarded-For": claimed, "X-Forwarded-Proto": "https"}
    seen = client.get("/seen", headers=headers, environ_base={"REMOTE_ADDR": peer}).json
    assert seen == {"address": address, "scheme": "http" if peer == "10.2.0.1" else "https"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"AUTH": "none"}, "AUTH='none'"),
        ({"AUTH": "OPEN "}, "AUTH="),
        ({"HOST": "0.0.0.0"}, "set AUTH=keys"),
        ({"HOST": "::"}, "set AUTH=keys"),
        ({"HOST": "jobs.example", "AUTH": "open"}, "set AUTH=keys"),
        ({"TRUSTED_PROXIES": "10.0.0.1/8"}, "TRUSTED_PROXIES"),
        ({"SECRET_KEY": "short-and-sweet"}, "SECRET_KEY=(hidden)"),
    ],
)
def test_what_is_not_safe_refuses_to_start(values: dict[str, str], words: str) -> None:
    with pytest.raises(SettingError) as refused:
        create_app(Settings.from_env(values))
    assert words in str(refused.value)
    assert "short-and-sweet" not in str(refused.value)


def test_the_secret_is_made_once_and_for_its_user_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    secret = kept_secret(folder)
    assert len(secret) == 64
    assert kept_secret(folder) == secret
    assert (folder / SECRET_FILE).stat().st_mode & 0o777 == 0o600
    assert [file.name for file in folder.iterdir()] == [SECRET_FILE]


def test_a_request_without_a_cookie_needs_no_secret(make_client: Callable[..., FlaskClient], tmp_path: Path) -> None:
    assert make_client().get("/live").status_code == 200
    assert not (tmp_path / SECRET_FILE).exists()


def test_a_secret_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="SECRET_KEY is empty"):
        kept_secret(tmp_path / "file")
