"""Addresses inside, through the whole worker: whatever form a URL gives them, the sentinels see nothing.

127.0.0.2 plays the public host and is the one address allowed; 127.0.0.1 and ::1 play the inside, with a sentinel
each. The addresses elsewhere are tested on the decision alone (test_fetching_addresses.py): a test that fails must not
send a packet off this machine. So no name here is looked up outside either, except those that the system itself knows.
"""

from __future__ import annotations

import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.errors import FetchError
from app.fetching import Downloads, FetchLimits
from testbed.processes import Process, wait_for
from testbed.scripted import ScriptedServer, Sentinel
from tests.integration.hands import add_stores, expect_books_balanced, submit, visit

PUBLIC = "127.0.0.2"
WIDE = str.maketrans("0123456789.", "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff0e")
CIRCLED = str.maketrans("0123456789", "\u24ea\u2460\u2461\u2462\u2463\u2464\u2465\u2466\u2467\u2468")

# 127.0.0.1 and ::1 (and 0.0.0.0 and ::, which Linux connects to them), as some parser or other reads them.
LITERALS = [
    *("127.0.0.1", "127.1", "127.0.1", "127.0.0.1.", "127.000.000.001", "127.0.0.01"),
    *("2130706433", "2130706433.", "0x7f000001", "0X7F000001", "0x7f.0.0.1", "0x7f.1", "0x7f.0x0.0x0.0x1"),
    *("017700000001", "0177.0.0.1", "0177.1", "0177.0x0.0.1", "00000177.0.0.1", "0x0000007f.1"),
    *("127.65536", "127.0.256", "4425673729", "127.0.0.257", "0x17f000001"),
    *("0", "0.0.0.0", "0x0", "00", "0.0", "127.255.255.254", "127.0.0.3"),
    *(
        "127.0.0.1".translate(WIDE),
        "127\u30020\u30020\u30021",
        "127\uff610\uff610\uff611",
        "127.0.0.1".translate(CIRCLED),
    ),
    *(
        "\uff11\uff12\uff17.1",
        "\u0661\u0662\u0667.0.0.1",
        "127\u20240\u20240\u20241",
        "127.0.0.\u00b9",
        "127.0.0.1\u00ad",
    ),
    *("127\u200b.0.0.1", "0\uff5871"),
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::0001]", "[::0:1]", "[::]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "[::ffff:0:127.0.0.1]"),
    *("[::127.0.0.1]", "[::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]"),
    *("[2002:7f00:1::]", "[2002:7f00:1::1]", "[2001:0:7f00:1::80ff:fffe]", "[fe80::5efe:7f00:1]", "[fe80::1]"),
    *(
        "[::1%25lo]",
        "[::1%lo]",
        "[fe80::1%251]",
        "[::ffff:127.0.0.1%251]",
        "[::1",
        "::1",
        "[[::1]]",
        "[::1]x",
        "[v1.::1]",
    ),
]
NAMES = [
    "localhost",
    "LOCALHOST",
    "LocalHost",
    "localhost.",
    "localhost%2e",
    "ip6-localhost",
    "\uff4c\uff4fcalhost",
    "lo\u00adcalhost",
]
NAMES += ["\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3"]


def _urls(port: int) -> Iterator[str]:
    """Every form, each leading to ``port`` inside if it leads anywhere."""
    for host in [*LITERALS, *NAMES]:
        yield f"http://{host}:{port}/x.jpg"
    inside = f"127.0.0.1:{port}"
    for credentials in (PUBLIC, f"{PUBLIC}:80", "user:pass", f"{PUBLIC}%2f", f"{PUBLIC}%23", f"{PUBLIC}%40", "@", ":"):
        yield f"http://{credentials}@{inside}/"
    yield from (
        f"http://{PUBLIC}@{PUBLIC}@{inside}/",
        f"http://{PUBLIC}:80\\@{inside}/",
        f"http://{PUBLIC}\\@{inside}/",
        f"http://{inside}\\@{PUBLIC}/",
        f"http://{inside}\\.{PUBLIC}/",
        f"http:\\\\{inside}/",
        f"http:/\\{inside}/",
        f"http:///{inside}/",
        f"http:////{inside}/",
        f"http:{inside}/",
        f"http:/{inside}/",
        f"http://{PUBLIC}:{port}:80@{inside}/",
        f"http://{PUBLIC} @{inside}/",
        f"http://{PUBLIC}#@{inside}\\..",
        f"http://{inside}#@{PUBLIC}/",
        f"http://{inside}?@{PUBLIC}/",
        f"http://{inside};@{PUBLIC}/",
        f"http://{inside}&@{PUBLIC}/",
        f"http://[{PUBLIC}]@{inside}/",
        f"http://{inside}%00.{PUBLIC}/",
        f"http://127.0.0.1%00:{port}/",
        f"http://127.0.0.1%20:{port}/",
        f"http://127.0.0.1 :{port}/",
        f"http://127.0.0.1: {port}/",
        f"http:// 127.0.0.1:{port}/",
        f"http://127.0.0.1:+{port}/",
        f"http://127.0.0.1:0{port}/",
        f"http://127.0.0.1:{port + 65536}/",
        f"http://%31%32%37.0.0.1:{port}/",
        f"http://127%2e0%2e0%2e1:{port}/",
        f"HTTP://127.0.0.1:{port}/",
        f"  http://127.0.0.1:{port}/",
        f"https://127.0.0.1:{port}/",
        f"https://{PUBLIC}@127.0.0.1:{port}/",
        f"https://[::ffff:127.0.0.1]:{port}/",
    )


# What is no URL at all is refused when it is submitted; tabs, line ends and other schemes among them.
REFUSED_AT_ONCE = [
    "h\tttp://127.0.0.1/",
    "http:\t//127.0.0.1/",
    "http://127.0\t.0.1/",
    "http://127.0.0.1\n/",
    "http://127.0.0.1\r\nHost: x/",
    "http://127.0.0.1/\r\nX: y",
    "\x00http://127.0.0.1/",
    "url:http://127.0.0.1/",
    "view-source:http://127.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "dict://127.0.0.1:6379/FLUSHALL",
    "ftp://127.0.0.1/",
    "ldap://127.0.0.1/",
    "jar:http://127.0.0.1!/",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "//127.0.0.1/",
    "127.0.0.1",
]
STATUSES = (301, 302, 303, 307, 308)
# What each form ends as: never anything that a connection could have led to (connect_error, timeout, http_...).
CODES = {"blocked_address", "invalid_url", "dns_not_found", "bad_redirect"}


@pytest.fixture
def inside() -> Iterator[tuple[Sentinel, Sentinel]]:
    with Sentinel("127.0.0.1") as four, Sentinel("::1") as six:
        yield four, six
        assert (four.connections, six.connections) == (0, 0), "a connection was made to an address inside"


def work_through(client: FlaskClient, urls: list[str]) -> list[dict[str, Any]]:
    job_id = submit(client, visit(images=urls))
    address = f"/api/jobs/{job_id}"
    wait_for(lambda: client.get(address).json["status"] != "ongoing", 60, what="the job's end", every=0.1)
    return client.get(f"{address}/images?per_page=1000").json["results"]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_no_form_of_an_address_inside_is_connected_to(
    app: Flask,
    client: FlaskClient,
    start_worker: Callable[..., Process],
    inside: tuple[Sentinel, Sentinel],
) -> None:
    add_stores(app)
    proxy = f"http://127.0.0.1:{inside[0].port}"
    worker = start_worker(FETCH_ALLOWED_NETWORKS=f"{PUBLIC}/32", RETRY_ATTEMPTS="1", http_proxy=proxy, ALL_PROXY=proxy)
    with ScriptedServer(PUBLIC) as public:
        good = [public.url("/redirect?to=/status?code=404"), public.url("/status?code=404")]
        direct = [url for sentinel in inside for url in _urls(sentinel.port)]
        taken = [url for url in direct if client.post("/api/submit/", json=_body(url)).status_code == 201]
        assert len(taken) > 150, "submit's own check leaves to the fetcher what only that can judge"
        redirects = [
            public.url(f"/redirect?code={status}&to={quote(url)}") for url in direct for status in _some(STATUSES, url)
        ]
        assert len(redirects) > 190
        found = work_through(client, [*good, *taken])
        found += work_through(client, redirects)
        expected = Counter(image["error_code"] for image in found)
        assert expected.pop("http_404") == 2, "the public host is reached, also by a redirect"
        # Some forms name the public host after all, where nobody listens on port 80: that, too, is an answer.
        astray = {image["url"] for image in found if image["error_code"] not in {*CODES, "http_404"}}
        assert not [url for url in astray if not _is_public(url)]
        assert expected["blocked_address"] > 150
        assert not [head for head in public.requests if b"Authorization" in head], "credentials of another host"
    assert worker.is_alive
    expect_books_balanced(app)


def _body(url: str) -> dict[str, Any]:
    return {"count": 1, "visits": [visit("NOWHERE", [url])]}


def _is_public(url: str) -> bool:
    """Whether its host, by RFC 3986, is the public one."""
    onward = unquote(url.partition("&to=")[2]) or url
    authority = re.split(r"[/?#]", onward.partition("//")[2])[0]
    return authority.rpartition("@")[2].partition(":")[0] == PUBLIC


def _some(statuses: tuple[int, ...], url: str) -> tuple[int, ...]:
    """All of them for the plain form, one for every other."""
    return statuses if url.startswith("http://127.0.0.1:") else (statuses[len(url) % len(statuses)],)


@pytest.mark.parametrize("url", REFUSED_AT_ONCE)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_is_no_url_is_refused_when_it_is_submitted(client: FlaskClient, url: str) -> None:
    answer = client.post("/api/submit/", json=_body(url))
    assert answer.status_code == 400
    assert "not an http(s) URL" in answer.json["error"] and "127.0.0.1" not in answer.json["error"]


# Names that change, in this process, where the lookup can be played


class Names:
    """``socket.getaddrinfo``: one answer until ``is_changed``, another from then on."""

    def __init__(self, first: list[str], then: list[str] | None = None) -> None:
        self._first, self._then = first, then or first
        self.is_changed: Callable[[], bool] = lambda: self.asked > 1
        self.asked = 0

    def __call__(self, name: str, _port: None, family: int, _kind: int) -> list[Any]:
        """A lookup asks for IPv4, then for IPv6; it counts as one."""
        self.asked += family == socket.AF_INET
        answer = self._then if self.is_changed() else self._first
        six, four = socket.AF_INET6, socket.AF_INET
        entries = [(six if ":" in each else four, socket.SOCK_STREAM, 6, "", (each, 0)) for each in answer]
        if of_family := [entry for entry in entries if entry[0] == family]:
            return of_family
        raise socket.gaierror(socket.EAI_NODATA, "No address associated with hostname")


class SlowToRedirect(ScriptedServer):
    """Until it answers, what was remembered of names is forgotten."""

    def _serve_redirect(self, connection: socket.socket, arguments: dict[str, str]) -> bool:
        time.sleep(0.3)
        return super()._serve_redirect(connection, arguments)


def fetch(url: str, **limits: Any) -> Any:
    downloads = Downloads(FetchLimits(allowed_networks=(f"{PUBLIC}/32",), **limits))
    try:
        downloads.add("it", url)
        results = wait_for(lambda: downloads.poll(0.2), 20, what=url)
    finally:
        downloads.close()
    return results[0][1]


@pytest.mark.parametrize(
    "answers",
    [
        [[PUBLIC], ["127.0.0.1"]],
        [[PUBLIC], ["::1"]],
        [[PUBLIC], ["::ffff:127.0.0.1"]],
        [[PUBLIC], ["0.0.0.0"]],
        [[PUBLIC], ["127.0.0.1", "::1", "0.0.0.0"]],
        [[PUBLIC, "127.0.0.1"], ["127.0.0.1"]],
    ],
    ids=str,
)
def test_name_that_changes_between_hops_leads_nowhere(
    monkeypatch: pytest.MonkeyPatch, inside: tuple[Sentinel, Sentinel], answers: list[list[str]]
) -> None:
    """The name is the public host's when it is first asked for, and inside when its own redirect comes back to it."""
    for sentinel in inside:
        names = Names(*answers)
        monkeypatch.setattr(socket, "getaddrinfo", names)
        with SlowToRedirect(PUBLIC) as public:
            names.is_changed = lambda public=public: bool(public.requests)
            onward = quote(f"http://rebind.example:{sentinel.port}/")
            url = public.url(f"/redirect?to={onward}", host="rebind.example")
            result = fetch(url, dns_cache_seconds=0.1)
            assert len(public.requests) == 1
        assert isinstance(result, FetchError) and result.code == "blocked_address", result


def test_name_is_not_looked_up_between_check_and_use(
    monkeypatch: pytest.MonkeyPatch, inside: tuple[Sentinel, Sentinel]
) -> None:
    """A second lookup, by libcurl, would find the answer inside; the address that was checked is the one used."""
    names = Names([PUBLIC], ["127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names)
    with ScriptedServer(PUBLIC) as public:
        result = fetch(public.url("/status?code=404", host="rebind.example"))
        assert isinstance(result, FetchError) and result.code == "http_404"
    assert names.asked == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "64:ff9b::7f00:1"])
def test_name_of_an_address_inside_is_blocked_where_it_is_met(
    monkeypatch: pytest.MonkeyPatch, inside: tuple[Sentinel, Sentinel], address: str
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names([address]))
    for sentinel in inside:
        with ScriptedServer(PUBLIC) as public:
            for status in STATUSES:
                onward = quote(f"http://inside.example:{sentinel.port}/")
                result = fetch(public.url(f"/redirect?code={status}&to={onward}"))
                assert isinstance(result, FetchError) and result.code == "blocked_address"
        for scheme in ("http", "https"):
            result = fetch(f"{scheme}://inside.example:{sentinel.port}/")
            assert isinstance(result, FetchError) and result.code == "blocked_address"
