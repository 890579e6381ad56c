"""Downloads against a scripted host on loopback: 127.0.0.2 plays the public host, 127.0.0.1 the private one."""

from __future__ import annotations

import datetime
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pycurl
import pytest

from app.errors import FetchError
from app.fetching import Downloads, Fetched, FetchLimits, HeldBack, codes, resolver, transfers, urls
from app.fetching.budgets import Budget
from testbed.authorities import Authority
from testbed.scripted import BODY, ScriptedServer, Sentinel

PUBLIC = "127.0.0.2"
MOST_SECONDS = 60.0
LIMITS: dict[str, Any] = {"allowed_networks": (f"{PUBLIC}/32",), "timeout_seconds": 30.0}
seen_codes: set[str] = set()

Result = Fetched | FetchError | HeldBack


def _listed(text: str) -> list[str]:
    return text.split()


def collect(downloads: Downloads, count: int) -> dict[Any, Result]:
    """Poll until ``count`` results are there, each key once."""
    results: dict[Any, Result] = {}
    deadline = time.monotonic() + MOST_SECONDS
    while len(results) < count:
        assert time.monotonic() < deadline, f"{len(results)} of {count} results"
        for key, result in downloads.poll(0.2):
            assert key not in results
            results[key] = result
            if isinstance(result, FetchError):
                seen_codes.add("http_<status>" if result.code.startswith("http_") else result.code)
                assert codes.find(result.code).transient == result.transient
                assert 10 < len(result.message) <= 300 and "\n" not in result.message
    return results


def poll_until(downloads: Downloads, condition: Callable[[], bool]) -> list[tuple[Any, Result]]:
    results: list[tuple[Any, Result]] = []
    deadline = time.monotonic() + MOST_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        results += downloads.poll(0.05)
    return results


def fetch(*addresses: str, **limits: Any) -> list[Result]:
    downloads = Downloads(FetchLimits(**(LIMITS | limits)))
    try:
        for number, address in enumerate(addresses):
            downloads.add(number, address)
        results = collect(downloads, len(addresses))
        assert (downloads.active, downloads.waiting, downloads.ready, downloads.held) == (0, 0, 0, 0)
        return [results[number] for number in range(len(addresses))]
    finally:
        downloads.close()


def fetch_one(address: str, **limits: Any) -> Result:
    return fetch(address, **limits)[0]


def fail(address: str, **limits: Any) -> FetchError:
    result = fetch_one(address, **limits)
    assert isinstance(result, FetchError), result
    return result


def body(address: str, **limits: Any) -> bytes:
    result = fetch_one(address, **limits)
    assert isinstance(result, Fetched), result
    return result.body


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(PUBLIC) as running:
        yield running


@pytest.fixture
def sentinel() -> Iterator[Sentinel]:
    with Sentinel() as listening:
        yield listening
        assert listening.connections == 0, "a connection was made to an address that is not allowed"


class Names:
    """What ``socket.getaddrinfo`` answers in a test; nothing else is patched."""

    def __init__(self) -> None:
        self.table: dict[str, list[str] | socket.gaierror] = {}
        self.asked: list[str] = []
        self.families: list[int] = []
        self.release = threading.Event()
        self.stuck: Callable[[str], bool] = lambda name: False

    def __call__(self, name: str, _port: None, family: int, _kind: int) -> list[Any]:
        self.asked.append(name)
        self.families.append(family)
        if self.stuck(name):
            self.release.wait(MOST_SECONDS)
        found = self.table.get(name, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
        if isinstance(found, socket.gaierror):
            raise found
        entries = [entry for entry in map(_entry, found) if family in (entry[0], socket.AF_UNSPEC)]
        if not entries:
            raise socket.gaierror(socket.EAI_NODATA, "No address associated with hostname")
        return entries


def _entry(address: str) -> tuple[Any, ...]:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 0, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    table = Names()
    monkeypatch.setattr(socket, "getaddrinfo", table)
    yield table
    table.release.set()


# What is fetched, and what is sent


def test_body_comes_back_whole_with_its_type_and_time(server: ScriptedServer) -> None:
    result = fetch_one(server.url("/good"))
    assert isinstance(result, Fetched)
    assert (result.body, result.size, result.status) == (BODY, len(BODY), 200)
    assert result.seconds > 0


def test_chunked_body_and_early_hints_are_understood(server: ScriptedServer) -> None:
    assert body(server.url("/chunked")) == BODY
    assert body(server.url("/hints")) == BODY


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("", b"/"),
        ("/", b"/"),
        ("?a=b", b"/?a=b"),
        ("/x?", b"/x?"),
        ("/%e4%E4/%2e%2E/%zz", b"/%e4%E4/%2e%2E/%zz"),
        ("/a/../b/./c//d", b"/a/../b/./c//d"),
        ("/bücher/ü?q=ß", "/bücher/ü?q=ß".encode()),
        ("/x?a=1&b=[{}]|\\^`'\"<>", b"/x?a=1&b=[{}]|\\^`'\"<>"),
        ("/x y?z w", b"/x%20y?z%20w"),
        ("/x#fragment?no", b"/x"),
        ("/x?q#fragment", b"/x?q"),
        ("  ", b"/"),
    ],
)
def test_request_target_is_kept_byte_for_byte(server: ScriptedServer, written: str, sent: bytes) -> None:
    assert body(server.url(written)) == BODY
    assert server.targets == [sent]


def test_request_says_who_asks_and_wants_no_compression(server: ScriptedServer) -> None:
    fetch(server.url("/good"), user_agent="tester/1")
    [head] = server.requests
    assert b"\r\nUser-Agent: tester/1\r\n" in head
    assert b"\r\nAccept-Encoding: identity\r\n" in head
    assert f"\r\nHost: {PUBLIC}:{server.port}\r\n".encode() in head
    assert b"Cookie" not in head and b"Authorization" not in head


def test_credentials_are_sent_to_their_host_only_and_never_shown(server: ScriptedServer) -> None:
    with ScriptedServer(PUBLIC) as other:
        host = f"user:s%40cret@{PUBLIC}:{server.port}"
        onward = other.url("/status?code=404")
        downloads = Downloads(FetchLimits(downloads=1, **LIMITS))
        for number, path in enumerate(("/good", "/redirect?to=/status?code=404", f"/redirect?to={onward}")):
            downloads.add(number, f"http://{host}{path}")
        downloads.add(3, server.url("/good"))
        results = collect(downloads, 4)
        downloads.close()
    assert [b"Basic dXNlcjpzQGNyZXQ=" in head for head in server.requests] == [True] * 4 + [False]
    assert [b"Authorization" in head for head in other.requests] == [False]
    assert "cret" not in repr(results)
    assert "cret" not in repr(urls.parse(f"http://{host}/", 1000))


def test_environment_proxies_and_netrc_are_ignored(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(f"machine {PUBLIC} login netrc password netrc\n")
    assert body(server.url("/good")) == BODY
    assert b"Authorization" not in server.requests[0]


def test_connections_are_used_again(server: ScriptedServer) -> None:
    downloads = Downloads(FetchLimits(downloads=4, **LIMITS))
    for number in range(100):
        downloads.add(number, server.url("/good"))
    results = collect(downloads, 100)
    downloads.close()
    assert all(isinstance(result, Fetched) for result in results.values())
    assert server.connections <= 4


def test_errors_keep_the_connection_too(server: ScriptedServer) -> None:
    downloads = Downloads(FetchLimits(downloads=1, **LIMITS))
    for number in range(10):
        downloads.add(number, server.url("/status?code=404&body=20000"))
    collect(downloads, 10)
    downloads.close()
    assert server.connections == 1


def test_ipv6_host_is_reached() -> None:
    with ScriptedServer("::1") as server:
        assert body(server.url("/good"), allowed_networks=("::1/128",)) == BODY


def test_compressed_body_is_not_unpacked(server: ScriptedServer) -> None:
    assert len(body(server.url("/bomb"), max_bytes=100_000)) < 20_000


# Errors, one test a code at least


UNUSABLE = _listed("""
x /photo.jpg //h/x http: http:/x http:x http:// http:///x http://:80/ http://@/ ftp://h/x file:///etc/passwd gopher://h/
javascript:x data:image/png;base64,AA unix:///s ws://h/ http://h:0/ http://h:65536/ http://h:-1/ http://h:+80/
http://h:8o/ http://h:80:80/ http://h:\u0668/ http://a\\b/ http://h/\0 http://h/\x7f http://h/\ud800 http://[::1/
http://[v1.x]/ http://%41/
""")
WITH_SPACES = [
    "",
    "http://h/\r\nX: y",
    "http://h/\tx",
    "http://h\n/",
    "http://a b/",
    "ht tp://h/",
    "http://h/" + "a" * 9000,
]


@pytest.mark.parametrize("address", [*UNUSABLE, *WITH_SPACES])
def test_unusable_url_is_said_so(address: str) -> None:
    error = fail(address)
    assert (error.code, error.transient) == ("invalid_url", False)


def test_message_of_an_invalid_url_does_not_repeat_it() -> None:
    assert "s3cret" not in str(fail("ftp://user:s3cret@h/s3cret?s3cret"))


def test_status_becomes_the_code(server: ScriptedServer) -> None:
    statuses = [400, 401, 403, 404, 408, 410, 418, 425, 429, 451, 500, 501, 502, 503, 504, 599, 206, 300, 304, 399]
    results = fetch(*(server.url(f"/status?code={status}") for status in statuses))
    transient = {error.code for error in results if isinstance(error, FetchError) and error.transient}
    assert [error.code for error in results if isinstance(error, FetchError)] == [f"http_{each}" for each in statuses]
    assert transient == {f"http_{each}" for each in (408, 425, 429, 500, 501, 502, 503, 504, 599)}


def test_status_counts_whatever_becomes_of_the_error_page(server: ScriptedServer) -> None:
    assert fail(server.url("/endless?code=404")).code == "http_404"
    assert fail(server.url("/status?code=500&body=5000000"), max_bytes=1000).code == "http_500"


def test_retry_after_is_passed_on(server: ScriptedServer) -> None:
    errors = fetch(server.url("/status?code=503&retry=7"), server.url("/status?code=429&retry=0"))
    assert [error.retry_after for error in errors if isinstance(error, FetchError)] == [7, 0]


def test_retry_after_is_read_as_seconds_or_date_and_silly_ones_are_ignored() -> None:
    now = 1_800_000_000.0
    date = format_datetime(datetime.datetime.fromtimestamp(now + 90, datetime.UTC), usegmt=True).encode()
    past = format_datetime(datetime.datetime.fromtimestamp(now - 90, datetime.UTC), usegmt=True).encode()
    assert transfers.read_retry_after(b"120", now) == 120
    assert transfers.read_retry_after(date, now) == 90
    silly = [
        None,
        b"",
        b"-5",
        b"1.5",
        b"soon",
        b"9" * 30,
        b"86401",
        past,
        b"\xff\xfe",
        b"Fri, 99 Foo 2026 99:99:99 GMT",
    ]
    assert [transfers.read_retry_after(value, now) for value in silly] == [None] * len(silly)


def test_nobody_listening_is_a_connect_error() -> None:
    with socket.socket() as unused:
        unused.bind((PUBLIC, 0))
        error = fail(f"http://{PUBLIC}:{unused.getsockname()[1]}/")
    assert (error.code, error.transient) == ("connect_error", True)


@pytest.mark.parametrize("path", ["/silent", "/reset"])
def test_connection_without_an_answer_is_a_connect_error(server: ScriptedServer, path: str) -> None:
    assert fail(server.url(path)).code == "connect_error"


def test_connect_timeout_is_a_timeout() -> None:
    # A listener whose queue is full lets no further connection be made.
    with socket.socket() as listener:
        listener.bind((PUBLIC, 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        error = fail(f"http://{PUBLIC}:{listener.getsockname()[1]}/", connect_timeout_seconds=0.3)
        for filler in fillers:
            filler.close()
    assert (error.code, error.transient) == ("timeout", True)
    assert "connection" in error.message


@pytest.mark.parametrize("path", ["/hang", "/drip", "/claim?bytes=1000", "/steps?left=4&wait=0.3"])
def test_total_time_is_limited_whatever_the_host_does(server: ScriptedServer, path: str) -> None:
    error = fail(server.url(path), timeout_seconds=0.8)
    assert (error.code, error.transient) == ("timeout", True)


def test_announced_length_past_the_limit_is_refused_before_the_body(server: ScriptedServer) -> None:
    assert fail(server.url("/claim?bytes=2000"), max_bytes=1999).code == "too_large"
    assert len(body(server.url("/size?bytes=1999"), max_bytes=1999)) == 1999


def test_endless_body_is_cut_at_the_limit_and_read_no_further(server: ScriptedServer) -> None:
    error = fail(server.url("/endless"), max_bytes=100_000)
    assert (error.code, error.transient) == ("too_large", False)
    assert server.sent_bytes < 20_000_000, "more than socket buffers can hold"


@pytest.mark.parametrize("path", ["/cut", "/chunked?cut", "/reset?after=1"])
def test_body_that_ends_early_is_truncated(server: ScriptedServer, path: str) -> None:
    error = fail(server.url(path))
    assert (error.code, error.transient) == ("truncated", True)


@pytest.mark.parametrize("path", ["/empty", "/status?code=204&body=0"])
def test_empty_body_is_an_error(server: ScriptedServer, path: str) -> None:
    assert fail(server.url(path)).code == "empty_body"


@pytest.mark.parametrize("path", ["/garbage", "/badstatus", "/headers", "/chunked?garbled"])
def test_what_is_not_http_is_a_bad_response(server: ScriptedServer, path: str) -> None:
    assert fail(server.url(path)).code == "bad_response"


def test_failure_leaves_nothing_for_the_next_request(server: ScriptedServer) -> None:
    paths = ["/cut", "/empty", "/status?code=503", "/claim?bytes=9999999", "/redirect?to=/good", "/garbage", "/silent"]
    downloads = Downloads(FetchLimits(downloads=1, max_bytes=100_000, **LIMITS))
    for path in paths:
        downloads.add("bad", server.url(path))
        collect(downloads, 1)
        downloads.add("good", server.url("/good"))
        result = collect(downloads, 1)["good"]
        assert isinstance(result, Fetched) and result.body == BODY
    downloads.close()


# Redirects


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("/good", b"/good"),
        ("good", b"/good"),
        ("../a/./b/../c", b"/a/c"),
        ("/%25e4%25E4/%C3%BC", b"/%e4%E4/\xc3\xbc"),
        ("%3Fa=1", b"/redirect?a=1"),
        ("/raw%FFbyte", b"/raw\xffbyte"),
        ("/two words", b"/two%20words"),
        ("/x%23fragment", b"/x"),
    ],
)
def test_redirect_is_followed(server: ScriptedServer, location: str, sent: bytes) -> None:
    fetch(server.url(f"/redirect?to={location}"), max_redirects=1)
    assert server.targets[1] == sent


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_to_another_host_is_followed(server: ScriptedServer, status: int) -> None:
    with ScriptedServer(PUBLIC) as other:
        assert body(server.url(f"/redirect?code={status}&body=100&to={other.url('/good')}")) == BODY
        assert other.targets == [b"/good"]


def test_scheme_relative_redirect_is_followed(server: ScriptedServer) -> None:
    assert body(server.url(f"/redirect?to=//{PUBLIC}:{server.port}/good")) == BODY


def test_number_of_redirects_is_limited(server: ScriptedServer) -> None:
    assert body(server.url("/steps?left=5")) == BODY
    assert fail(server.url("/steps?left=6")).code == "too_many_redirects"
    assert fail(server.url("/loop")).code == "too_many_redirects"
    assert fail(server.url("/redirect?to=/good"), max_redirects=0).code == "too_many_redirects"


@pytest.mark.parametrize("query", ["", "?to=", "?to=%20", "?to=/%01"])
def test_redirect_that_leads_nowhere_is_bad(server: ScriptedServer, query: str) -> None:
    assert fail(server.url("/redirect" + query), max_redirects=1).code == "bad_redirect"


def test_redirect_to_an_overlong_url_is_bad() -> None:
    base = urls.parse("http://shop.example/", 100)
    with pytest.raises(FetchError) as raised:
        urls.redirect(base, b"/" + b"a" * 100, 100)
    assert raised.value.code == "bad_redirect"


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "gopher://h/", "http:x", "http://", "http://h:99999/", "ftp://h/"]
)
def test_redirect_to_another_scheme_or_a_bad_url_is_refused(server: ScriptedServer, location: str) -> None:
    assert fail(server.url(f"/redirect?to={location}")).code == "invalid_url"


# The address guard: the sentinel on 127.0.0.1 sees nothing


INSIDE = _listed("""
127.0.0.1 127.1 0x7f.1 2130706433 017700000001 [::ffff:127.0.0.1] [::ffff:7f00:1] 0 0.0.0.0 [::] [::1] [::127.0.0.1]
[64:ff9b::7f00:1] [2002:7f00:1::] user@127.0.0.1
""")


@pytest.mark.parametrize("host", INSIDE)
def test_private_address_is_blocked_without_a_connection(sentinel: Sentinel, host: str) -> None:
    error = fail(f"http://{host}:{sentinel.port}/")
    assert (error.code, error.transient) == ("blocked_address", False)


def test_private_address_is_blocked_by_redirect(server: ScriptedServer, sentinel: Sentinel) -> None:
    for host in ("127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]"):
        error = fail(server.url(f"/redirect?to=http://{host}:{sentinel.port}/"))
        assert error.code == "blocked_address"


def test_private_address_is_blocked_by_name(server: ScriptedServer, sentinel: Sentinel, names: Names) -> None:
    names.table["inside.example"] = ["127.0.0.1", "::1"]
    assert fail(f"http://inside.example:{sentinel.port}/").code == "blocked_address"
    assert fail(server.url(f"/redirect?to=http://inside.example:{sentinel.port}/")).code == "blocked_address"


def test_name_that_changes_to_a_private_address_is_blocked(sentinel: Sentinel, names: Names) -> None:
    names.table["rebind.example"] = [PUBLIC]
    with ScriptedServer(PUBLIC) as server:
        downloads = Downloads(FetchLimits(dns_cache_seconds=0.05, **LIMITS))
        downloads.add("first", server.url("/status?code=404", host="rebind.example"))
        assert collect(downloads, 1)["first"].code == "http_404"  # type: ignore[union-attr]
        names.table["rebind.example"] = ["127.0.0.1"]
        time.sleep(0.06)
        downloads.add("then", f"http://rebind.example:{sentinel.port}/")
        assert collect(downloads, 1)["then"].code == "blocked_address"  # type: ignore[union-attr]
        downloads.close()


def test_guard_stands_at_the_socket_even_where_a_lookup_lied(
    sentinel: Sentinel, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The resolver's own filter is taken away: what libcurl is given must still not be connected to.
    monkeypatch.setattr("app.fetching.resolver.filter", lambda _allowed, found: found, raising=False)
    names.table["inside.example"] = ["127.0.0.1"]
    assert fail(f"http://inside.example:{sentinel.port}/").code == "blocked_address"


def test_refused_address_of_a_name_is_skipped_and_another_used(sentinel: Sentinel, names: Names) -> None:
    with ScriptedServer(PUBLIC) as server:
        names.table["mixed.example"] = ["127.0.0.1", "::1", PUBLIC]
        assert body(server.url("/good", host="mixed.example")) == BODY
        assert f"Host: mixed.example:{server.port}".encode() in server.requests[0]


def test_second_address_is_tried_where_the_first_does_not_answer(names: Names) -> None:
    with ScriptedServer("127.0.0.3") as server:
        names.table["two.example"] = [PUBLIC, "127.0.0.3"]
        assert body(server.url("/good", host="two.example"), allowed_networks=("127.0.0.2/31",)) == BODY


# Names


def test_name_is_looked_up_once_and_remembered(server: ScriptedServer, names: Names) -> None:
    names.table["shop.example"] = [PUBLIC]
    addresses = [server.url("/good", host=host) for host in ("shop.example", "SHOP.example")] * 20
    assert all(isinstance(result, Fetched) for result in fetch(*addresses))
    assert names.families == [socket.AF_INET, socket.AF_INET6]


def test_name_with_a_final_dot_or_underscore_is_reached(server: ScriptedServer, names: Names) -> None:
    names.table |= {"shop.example.": [PUBLIC], "my_shop.example": [PUBLIC]}
    assert body(server.url("/good", host="shop.example.")) == BODY
    assert body(server.url("/good", host="my_shop.example")) == BODY


def test_international_name_is_encoded(server: ScriptedServer, names: Names) -> None:
    names.table["xn--bcher-kva.example"] = [PUBLIC]
    assert body(server.url("/good", host="Bücher.example")) == BODY
    assert f"Host: xn--bcher-kva.example:{server.port}".encode() in server.requests[0]


def test_name_that_moves_is_followed_after_its_time(names: Names) -> None:
    downloads = Downloads(FetchLimits(dns_cache_seconds=0.05, allowed_networks=("127.0.0.2/31",)))
    names.table["moves.example"] = [PUBLIC]
    with ScriptedServer(PUBLIC) as old:
        downloads.add(1, old.url("/good", host="moves.example"))
        assert isinstance(collect(downloads, 1)[1], Fetched)
    # The same port as before, so that libcurl's own memory of the name would lead to the old address.
    with ScriptedServer("127.0.0.3", old.port) as new:
        names.table["moves.example"] = ["127.0.0.3"]
        time.sleep(0.06)
        downloads.add(2, new.url("/good", host="moves.example"))
        assert isinstance(collect(downloads, 1)[2], Fetched)
        assert len(new.requests) == 1
    downloads.close()


@pytest.mark.parametrize("number", [socket.EAI_NONAME, socket.EAI_NODATA])
def test_name_that_does_not_exist_is_permanent_and_remembered(names: Names, number: int) -> None:
    names.table["nope.example"] = socket.gaierror(number, "no such name")
    downloads = Downloads(FetchLimits(**LIMITS))
    for key in range(3):
        downloads.add(key, "http://nope.example/x")
        error = collect(downloads, 1)[key]
        assert isinstance(error, FetchError) and (error.code, error.transient) == ("dns_not_found", False)
    downloads.close()
    no_such_name, no_address = [socket.AF_INET], [socket.AF_INET, socket.AF_INET6]
    assert names.families == (no_such_name if number == socket.EAI_NONAME else no_address)


def test_name_with_one_kind_of_address_is_reached(server: ScriptedServer, names: Names) -> None:
    names.table |= {"four.example": [PUBLIC], "six.example": [f"::ffff:{PUBLIC}"], "both.example": ["::1", PUBLIC]}
    results = fetch(*(server.url(host=name) for name in names.table))
    assert [isinstance(result, Fetched) for result in results] == [True, True, True]


def test_name_of_the_hosts_file_is_looked_up_for_ipv6_too(
    names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n::1 Six.Example other.example\n")
    monkeypatch.setattr(resolver, "HOSTS_FILE", tmp_path / "hosts")
    assert fail("http://six.example/").code == "dns_not_found"
    assert names.families == [socket.AF_INET, socket.AF_INET6]


def test_reserved_name_is_not_even_asked_for(names: Names) -> None:
    assert [error.code for error in (fail("http://host.invalid/"), fail("http://x.ONION./"))] == ["dns_not_found"] * 2
    assert names.asked == []


@pytest.mark.parametrize("number", [socket.EAI_AGAIN, socket.EAI_FAIL])
def test_name_server_in_trouble_is_transient_and_not_remembered(
    server: ScriptedServer, names: Names, number: int
) -> None:
    names.table["shop.example"] = socket.gaierror(number, "trouble")
    downloads = Downloads(FetchLimits(**LIMITS))
    downloads.add(1, server.url(host="shop.example"))
    error = collect(downloads, 1)[1]
    assert isinstance(error, FetchError) and (error.code, error.transient) == ("dns_error", True)
    names.table["shop.example"] = [PUBLIC]
    downloads.add(2, server.url(host="shop.example"))
    assert isinstance(collect(downloads, 1)[2], Fetched)
    downloads.close()


def test_stuck_lookups_end_at_their_deadline_and_delay_nobody_else(server: ScriptedServer, names: Names) -> None:
    names.stuck = lambda name: name.startswith("stuck")
    names.table["shop.example"] = [PUBLIC]
    downloads = Downloads(FetchLimits(dns_threads=2, dns_timeout_seconds=0.5, **LIMITS))
    downloads.add("warm", server.url(host="shop.example"))
    collect(downloads, 1)
    for number in range(40):
        downloads.add(number, f"http://stuck-{number}.example/")
        downloads.add(f"literal {number}", server.url())
        downloads.add(f"known {number}", server.url(host="shop.example"))
    first = [key for key, _ in poll_until(downloads, lambda: len(server.requests) == 81)]
    assert not set(range(40)) & set(first[:10])
    results = dict.fromkeys(first) | collect(downloads, 120 - len(first))
    assert {getattr(results[number], "code", None) for number in range(40)} == {"dns_error"}
    # The lookups come back at last: the resolver is whole again.
    names.release.set()
    downloads.add("after", "http://new.example/")
    assert collect(downloads, 1)["after"].code == "dns_not_found"  # type: ignore[union-attr]
    downloads.close()


def test_thousands_of_names_that_do_not_exist_settle(names: Names, server: ScriptedServer) -> None:
    downloads = Downloads(FetchLimits(**LIMITS))
    for number in range(5000):
        downloads.add(number, f"http://nope-{number}.example/")
    downloads.add("good", server.url())
    results = collect(downloads, 5001)
    downloads.close()
    assert isinstance(results.pop("good"), Fetched)
    assert {error.code for error in results.values() if isinstance(error, FetchError)} == {"dns_not_found"}
    assert len(names.asked) == 5000


# Many hosts at once


def test_hanging_host_leaves_the_others_their_transfers(server: ScriptedServer) -> None:
    with ScriptedServer(PUBLIC) as hanging:
        downloads = Downloads(FetchLimits(**LIMITS))
        for number in range(200):
            downloads.add(("hanging", number), hanging.url("/hang"))
        for number in range(300):
            downloads.add(("good", number), server.url())
        results = dict(poll_until(downloads, lambda: len(server.requests) == 300))
        assert hanging.most_open <= 16 and downloads.active >= 16
        while sum(isinstance(result, Fetched) for result in results.values()) < 300:
            results |= dict(downloads.poll(0.1))
        # Once it has dawdled for a while, what waits for it beyond a bound is handed back, not attempted.
        results |= dict(poll_until(downloads, lambda: downloads.waiting <= 64))
        held_back = [result for result in results.values() if isinstance(result, HeldBack)]
        assert len(held_back) == 200 - 16 - 64 and 4 <= held_back[0].delay_seconds <= 6
        assert (downloads.active, downloads.held, downloads.ready) == (16, 64, 0)
        assert len(downloads.forget(lambda key: key[0] == "hanging")) == 64
        downloads.close()


def test_host_that_fails_again_and_again_is_held_back(server: ScriptedServer) -> None:
    addresses = [server.url("/status?code=503")] * 200
    results = [error for error in fetch(*addresses) if isinstance(error, FetchError)]
    assert {error.code for error in results} == {"http_503"} and all(error.transient for error in results)
    refused = [error for error in results if error.retry_after]
    assert len(server.requests) < 50 and len(refused) == 200 - len(server.requests)
    assert all(0 < (error.retry_after or 0) <= 5 and "held back" in error.message for error in refused)


def test_images_that_are_missing_say_nothing_against_their_host(server: ScriptedServer) -> None:
    fetch(*[server.url("/status?code=404")] * 200)
    assert len(server.requests) == 200


def test_counts_follow_the_work(server: ScriptedServer) -> None:
    downloads = Downloads(FetchLimits(downloads=8, **LIMITS))
    for number in range(20):
        downloads.add(number, server.url("/release"))
    assert (downloads.active, downloads.ready, downloads.held, downloads.waiting) == (0, 20, 0, 20)
    poll_until(downloads, lambda: downloads.active > 0 and server.connections == 6)
    assert (downloads.active, downloads.waiting) == (6, 14), "a share is kept for hosts that have proven themselves"
    assert (downloads.ready, downloads.held) == (14, 0), "its cap is that of all: nothing waits because of it"
    server.released.set()
    assert len(collect(downloads, 20)) == 20
    assert (downloads.active, downloads.ready, downloads.held, downloads.waiting) == (0, 0, 0, 0)
    downloads.close()


def test_wake_ends_a_poll_from_another_thread(server: ScriptedServer) -> None:
    downloads = Downloads(FetchLimits(**LIMITS))
    threading.Timer(0.2, downloads.wake).start()
    started = time.monotonic()
    assert downloads.poll(MOST_SECONDS) == []
    assert time.monotonic() - started < MOST_SECONDS / 2
    downloads.close()
    downloads.wake()  # harmless


def test_wake_before_a_poll_is_not_lost() -> None:
    downloads = Downloads(FetchLimits(**LIMITS))
    downloads.wake()
    started = time.monotonic()
    assert downloads.poll(MOST_SECONDS) == []
    assert time.monotonic() - started < MOST_SECONDS / 2
    downloads.close()


def test_close_drops_what_runs_and_may_be_called_again(server: ScriptedServer) -> None:
    downloads = Downloads(FetchLimits(**LIMITS))
    for number in range(50):
        downloads.add(number, server.url("/hang"))
    poll_until(downloads, lambda: downloads.active == 16)
    downloads.close()
    downloads.close()


def test_free_handles_keep_no_body(server: ScriptedServer) -> None:
    downloads = Downloads(FetchLimits(downloads=4, **LIMITS))
    for number in range(8):
        downloads.add(number, server.url("/size?bytes=1000000"))
    [result, *_] = [result for result in collect(downloads, 8).values() if isinstance(result, Fetched)]
    # Only this test's names hold the body: the list, the variable, and the call's argument.
    assert sys.getrefcount(result.body) <= 3
    downloads.close()


def test_bodies_in_flight_keep_to_their_budget(server: ScriptedServer) -> None:
    downloads = Downloads(FetchLimits(max_bytes=3_000_000, max_bytes_in_flight=4_000_000, **LIMITS))
    for number in range(100):
        downloads.add(number, server.url("/size?bytes=2000000"))
    results: dict[Any, Result] = {}
    most = 0
    deadline = time.monotonic() + MOST_SECONDS
    while len(results) < 100 and time.monotonic() < deadline:
        results |= {key: getattr(result, "status", result) for key, result in downloads.poll(0.2)}
        most = max(most, downloads._budget.used)
    downloads.close()
    assert list(results.values()) == [200] * 100
    assert 2_000_000 < most <= 7_000_000
    assert downloads._budget.used == 0


def test_silent_host_costs_no_work(server: ScriptedServer) -> None:
    downloads = Downloads(FetchLimits(**LIMITS))
    for number in range(40):
        downloads.add(number, server.url("/hang"))
    poll_until(downloads, lambda: len(server.requests) == 16)
    calls = 0
    drive = downloads._wires.drive

    def counted(timeout: float) -> Any:
        nonlocal calls
        calls += 1
        return drive(timeout)

    downloads._wires.drive = counted  # type: ignore[method-assign]
    assert downloads.poll(1.0) == []
    downloads.close()
    assert calls < 50, "it waits, it does not spin"


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def test_own_authority_is_trusted_where_it_is_named(authority: Authority, names: Names) -> None:
    names.table["shop.example"] = [PUBLIC]
    with ScriptedServer(PUBLIC, tls=authority.context("shop.example")) as server:
        address = server.url(host="shop.example")
        assert body(address, ca_bundle=str(authority.bundle)) == BODY
        assert fail(address).code == "tls_error"


@pytest.mark.parametrize(
    ("name", "options"),
    [("shop.example", {"days": -1}), ("other.example", {}), ("shop.example", {"is_signed": False}), (PUBLIC, {})],
    ids=["expired", "another name", "signed by itself", "for the address only"],
)
def test_certificate_that_is_wrong_is_never_accepted(
    authority: Authority, names: Names, name: str, options: dict[str, Any]
) -> None:
    names.table["shop.example"] = [PUBLIC]
    with ScriptedServer(PUBLIC, tls=authority.context(name, **options)) as server:
        error = fail(server.url(host="shop.example"), ca_bundle=str(authority.bundle))
        assert (error.code, error.transient) == ("tls_error", False)
        assert server.requests == []


def test_redirects_between_http_and_https_keep_certificates_checked(
    authority: Authority, server: ScriptedServer
) -> None:
    bundle = str(authority.bundle)
    with (
        ScriptedServer(PUBLIC, tls=authority.context(PUBLIC)) as good,
        ScriptedServer(PUBLIC, tls=authority.context("other.example")) as bad,
    ):
        assert body(server.url(f"/redirect?to={good.url()}"), ca_bundle=bundle) == BODY
        assert body(good.url(f"/redirect?to={server.url()}"), ca_bundle=bundle) == BODY
        assert fail(server.url(f"/redirect?to={bad.url()}"), ca_bundle=bundle).code == "tls_error"


def test_plain_http_where_tls_is_expected_is_a_tls_error() -> None:
    with socket.create_server((PUBLIC, 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        assert fail(f"https://{PUBLIC}:{listener.getsockname()[1]}/").code == "tls_error"


def test_connection_cut_in_the_handshake_is_no_matter_of_certificates() -> None:
    with socket.create_server((PUBLIC, 0)) as listener:

        def cut() -> None:
            listener.accept()[0].close()

        threading.Thread(target=cut, daemon=True).start()
        assert fail(f"https://{PUBLIC}:{listener.getsockname()[1]}/").code == "connect_error"


def test_bundle_that_does_not_exist_stops_the_start() -> None:
    with pytest.raises(OSError, match="no-such"):
        Downloads(FetchLimits(ca_bundle="/no-such.pem"))


def test_every_libcurl_code_becomes_a_known_one() -> None:
    transfer = transfers.Transfer(FetchLimits(), transfers.AddressGuard(), Budget(1), Path("/none"))
    target = urls.parse("http://shop.example/", 1000)
    for code in range(1, 110):
        outcome = transfer.conclude(target, code)
        assert isinstance(outcome, FetchError) and outcome.code in codes.CODES, code
    assert pycurl.E_OK == 0
    transfer.close()


def test_every_code_of_the_table_was_seen_in_this_file(request: pytest.FixtureRequest) -> None:
    if len(request.session.items) < 100:
        pytest.skip("only part of the file was run")
    assert seen_codes == set(codes.CODES)
