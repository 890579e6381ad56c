"""POSTs to receivers on loopback: 127.0.0.2 plays the public host, 127.0.0.1 and ::1 the inside."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from app.errors import FetchError
from app.fetching.posts import ANSWER_MOST_BYTES, Answered, PostLimits, Posts, check_receiver
from testbed.authorities import Authority
from testbed.receiver import Receiver
from testbed.scripted import Sentinel
from tests.integration.test_ssrf import LITERALS, NAMES, REFUSED_AT_ONCE, STATUSES, Names, _urls

PUBLIC = "127.0.0.2"
ALLOWED = (f"{PUBLIC}/32",)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(PUBLIC) as running:
        yield running


@pytest.fixture
def inside() -> Iterator[tuple[Sentinel, Sentinel]]:
    with Sentinel("127.0.0.1") as four, Sentinel("::1") as six:
        yield four, six
        assert (four.connections, six.connections) == (0, 0), "a connection was made to an address inside"


def send(url: str, body: bytes = b"{}", *, headers: dict[str, str] | None = None, **limits: Any) -> Any:
    """The answer, or the error as its code."""
    posts = Posts(PostLimits(**{"allowed_networks": ALLOWED, **limits}))
    try:
        return posts.send(url, body, headers or {})
    except FetchError as error:
        return error.code
    finally:
        posts.close()


def test_body_and_headers_arrive_as_given(receiver: Receiver) -> None:
    body = '{"name":"Müller"}'.encode() * 1000
    answer = send(receiver.url("/hook?a=%e4&b=1"), body, headers={"webhook-id": "m1"})
    assert (answer.status, answer.excerpt) == (200, "thanks")
    [message] = receiver.messages
    assert (message.path, message.body, message.id) == ("/hook?a=%e4&b=1", body, "m1")
    assert message.headers["accept-encoding"] == "identity"
    assert not {"cookie", "authorization"} & set(message.headers)


def test_credentials_of_the_url_are_sent(receiver: Receiver) -> None:
    send(receiver.url("/hook").replace("//", "//user:p%40ss@"))
    assert receiver.messages[0].headers["authorization"] == "Basic dXNlcjpwQHNz"


@pytest.mark.parametrize("status", [200, 204, 301, 400, 410, 429, 500, 503])
def test_whatever_is_answered_is_told(receiver: Receiver, status: int) -> None:
    answer = send(receiver.url(f"/status?code={status}&retry=7"))
    assert (answer.status, answer.retry_after) == (status, 7.0)


@pytest.mark.parametrize("status", STATUSES)
def test_redirects_are_not_followed(receiver: Receiver, inside: tuple[Sentinel, Sentinel], status: int) -> None:
    for onward in (f"http://127.0.0.1:{inside[0].port}/", receiver.url("/other")):
        assert send(receiver.url(f"/redirect?code={status}&to={quote(onward)}")).status == status
    assert len(receiver.messages) == 2


def test_no_form_of_an_address_inside_is_connected_to(inside: tuple[Sentinel, Sentinel]) -> None:
    """The table of the downloads, through another client."""
    posts = Posts(PostLimits(allowed_networks=ALLOWED, timeout_seconds=2, connect_timeout_seconds=1))
    ends = set()
    for url in (url for each in inside for url in _urls(each.port)):
        with pytest.raises(FetchError) as refused:
            posts.send(url, b"{}", {})
        ends.add(refused.value.code)
    posts.close()
    # connect_error: of the forms that name the public host after all, where nobody listens.
    assert ends <= {"blocked_address", "invalid_url", "dns_not_found", "dns_error", "connect_error"}
    assert "blocked_address" in ends


@pytest.mark.parametrize("url", REFUSED_AT_ONCE)
def test_what_is_no_url_is_refused(url: str) -> None:
    assert send(url) == "invalid_url"


def test_only_literal_addresses_are_judged_before_anything_is_sent() -> None:
    refused = set()
    for host in [*LITERALS, *NAMES]:
        try:
            check_receiver(f"http://{host}:8080/hook", ALLOWED, 2048)
        except FetchError as error:
            refused.add(error.code)
        else:
            # A name, or what only a resolver reads as an address: judged when it is connected to.
            assert not host.isascii() or host.lower().rstrip(".") in ("localhost", "ip6-localhost"), host
    assert refused == {"blocked_address", "invalid_url"}
    check_receiver(f"http://{PUBLIC}/", ALLOWED, 2048)
    check_receiver("https://example.com/hook", (), 2048)


def test_name_is_not_looked_up_between_check_and_use(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver, inside: tuple[Sentinel, Sentinel]
) -> None:
    names = Names([PUBLIC], ["127.0.0.1", "::1"])
    names.is_changed = lambda: bool(receiver.messages)
    monkeypatch.setattr(socket, "getaddrinfo", names)
    posts = Posts(PostLimits(allowed_networks=ALLOWED))
    assert posts.send(receiver.url("/hook", host="rebind.example"), b"{}", {}).status == 200
    # The connection is kept, to the address that was checked; a new one is checked anew.
    assert posts.send(receiver.url("/hook", host="rebind.example"), b"{}", {}).status == 200
    for sentinel in inside:
        with pytest.raises(FetchError, match="blocked_address"):
            posts.send(f"http://rebind.example:{sentinel.port}/", b"{}", {})
    assert receiver.connections == 1
    posts.close()


def test_of_several_addresses_the_allowed_ones_are_tried(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver, inside: tuple[Sentinel, Sentinel]
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names(["127.0.0.1", "::1", "0.0.0.0", PUBLIC]))
    assert send(receiver.url("/hook", host="mixed.example")).status == 200


@pytest.mark.parametrize("path", ["/hang", "/silent", "/reset", "/garbage", "/badstatus", "/headers"])
def test_no_answer_is_an_error_in_time(receiver: Receiver, path: str) -> None:
    started = time.monotonic()
    assert send(receiver.url(path), timeout_seconds=1) in ("timeout", "connect_error", "bad_response")
    assert time.monotonic() - started < 10


class Dripping(Receiver):
    """Its status line never comes to an end."""

    def _serve_hook(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
        while not self._is_closing:
            self._send(connection, b"H")
            time.sleep(0.05)
        return False


def test_an_answer_that_drips_ends_at_the_deadline() -> None:
    with Dripping(PUBLIC) as dripping:
        started = time.monotonic()
        assert send(dripping.url("/hook"), timeout_seconds=1) == "timeout"
        assert time.monotonic() - started < 10


def test_a_handshake_that_drips_ends_at_the_deadline() -> None:
    """A TLS record of 16 KB, byte by byte: each read has its byte in time."""
    with socket.create_server((PUBLIC, 0)) as listener, Receiver(PUBLIC) as clock:
        posts = Posts(PostLimits(allowed_networks=ALLOWED, timeout_seconds=1))
        listener.settimeout(10)

        def drip() -> None:
            connection, _ = listener.accept()
            try:
                connection.sendall(b"\x16\x03\x03\x40\x00")
                while not clock._is_closing:
                    connection.sendall(b"\x02")
                    time.sleep(0.05)
            except OSError:
                pass

        threading.Thread(target=drip, daemon=True).start()
        started = time.monotonic()
        with pytest.raises(FetchError, match="timeout"):
            posts.send(f"https://{PUBLIC}:{listener.getsockname()[1]}/", b"{}", {})
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("path", ["/drip", "/endless", "/bomb", "/claim?bytes=99999", "/cut", "/chunked?cut", "/good"])
def test_the_status_counts_whatever_the_body_is(receiver: Receiver, path: str) -> None:
    started = time.monotonic()
    answer: Answered = send(receiver.url(path), timeout_seconds=1)
    assert answer.status == 200
    assert (len(answer.excerpt) <= 200 and answer.excerpt.isprintable()) or answer.excerpt == ""
    assert time.monotonic() - started < 10
    assert receiver.sent_bytes < 10_000_000


def test_a_short_answer_keeps_the_connection_and_a_long_one_gives_it_up(receiver: Receiver) -> None:
    posts = Posts(PostLimits(allowed_networks=ALLOWED))
    for path in ("/hook", "/status?code=500", "/hook", "/empty"):
        posts.send(receiver.url(path), b"{}", {})
    assert receiver.connections == 1
    posts.send(receiver.url(f"/size?bytes={ANSWER_MOST_BYTES + 1}"), b"{}", {})
    posts.send(receiver.url("/hook"), b"{}", {})
    assert receiver.connections == 2
    posts.close()


def test_cookies_are_forgotten(receiver: Receiver) -> None:
    class Cooking(Receiver):
        def _serve_hook(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
            return self._reply(connection, "200 OK", b"", "Set-Cookie: a=b; Path=/")

    with Cooking(PUBLIC) as cooking:
        posts = Posts(PostLimits(allowed_networks=ALLOWED))
        for _ in range(2):
            posts.send(cooking.url("/hook"), b"{}", {})
        posts.close()
        assert "cookie" not in cooking.messages[1].headers


def test_the_environment_has_no_say(
    receiver: Receiver, inside: tuple[Sentinel, Sentinel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text(f"machine {PUBLIC} login me password secret\n")
    for name in ("http_proxy", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{inside[0].port}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert send(receiver.url("/hook")).status == 200
    assert "authorization" not in receiver.messages[0].headers


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize(
    ("name", "options"),
    [(PUBLIC, {"days": -1}), ("other.example", {}), (PUBLIC, {"is_signed": False})],
    ids=["expired", "another name", "signed by itself"],
)
def test_a_certificate_that_is_wrong_is_never_accepted(
    authority: Authority, name: str, options: dict[str, Any]
) -> None:
    with Receiver(PUBLIC, tls=authority.context(name, **options)) as receiver:
        assert send(receiver.url("/hook"), ca_bundle=str(authority.bundle)) == "tls_error"
        assert receiver.messages == []


def test_an_own_authority_is_trusted_where_it_is_named(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver(PUBLIC, tls=authority.context(PUBLIC)) as receiver:
        posts = Posts(PostLimits(allowed_networks=ALLOWED, ca_bundle=str(authority.bundle)))
        for _ in range(3):
            assert posts.send(receiver.url("/hook"), b"{}", {}).status == 200
        assert receiver.connections == 1
        posts.close()
        assert send(receiver.url("/hook")) == "tls_error"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
        assert send(receiver.url("/hook")) == "tls_error"
