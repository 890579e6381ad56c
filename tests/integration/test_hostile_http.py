"""Hostile requests to the service: bodies, queries, paths and methods. Answered 4xx as JSON, at once, memory flat."""

from __future__ import annotations

import itertools
import json
import re
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from testbed import processes
from testbed.processes import Process, free_port, wait_for
from tests.conftest import Backend
from tests.integration import hands

MOST_BODY = 4_000_000
GIGABYTE = 2**30
HEAD = "POST /api/submit/ HTTP/1.1\r\nHost: localhost\r\n"


class Server:
    """A gunicorn as in production, spoken to in raw bytes."""

    def __init__(self, process: Process, port: int) -> None:
        self.process, self.port = process, port
        self.child = wait_for(self._find_child, 10, what="gunicorn's worker")

    def _find_child(self) -> int | None:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else None

    @property
    def megabytes(self) -> int:
        return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.child}/status").read_text())[0]) // 1024

    def ask(self, head: str | bytes, pieces: Iterable[bytes] = ()) -> tuple[int, str, str, int]:
        """Send until something is answered; returns the status, the headers, the body, and how much was sent."""
        sent = 0
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(head.encode("latin-1") if isinstance(head, str) else head)
            try:
                for piece in pieces:
                    connection.sendall(piece)
                    sent += len(piece)
            except OSError:
                pass  # it has answered and closed
            answer = b""
            try:
                while b"\r\n\r\n" not in answer or not _is_whole(answer):
                    answer += (more := connection.recv(65536))
                    if not more:
                        break
            except ConnectionResetError:
                pass  # what it had not read when it closed
        text = answer.decode("latin-1")
        headers, _, body = text.partition("\r\n\r\n")
        return int(headers.split(" ")[1]), headers, body, sent


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return length is not None and len(body) >= int(length[1])


@pytest.fixture(scope="module")
def server(embedded: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile-http")
    database = folder / "test.db"
    database.write_bytes((embedded.data_dir / "empty.db").read_bytes())
    env = {
        "DATABASE_URL": f"sqlite:///{database}",
        "DATA_DIR": str(embedded.data_dir),
        "BODY_MAX_BYTES": str(MOST_BODY),
    }
    port = free_port()
    with processes.web(env, folder / "web.log", port=port) as process:
        running = Server(process, port)
        assert running.ask("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 200
        yield running


def expect_json_error(status: int, headers: str, body: str) -> None:
    assert 400 <= status < 500 or status == 501, (status, body)
    assert "application/json" in headers and "<" not in body
    assert list(json.loads(body)) == ["error"]


# Bodies, on a real server


def endless(piece: bytes) -> Iterator[bytes]:
    return itertools.repeat(piece, GIGABYTE // len(piece))


@pytest.mark.parametrize(
    ("header", "piece", "expected"),
    [
        (f"Content-Length: {GIGABYTE}", b" " * 65536, 413),
        ("Transfer-Encoding: chunked", b"10000\r\n" + b" " * 65536 + b"\r\n", 413),
        ("Transfer-Encoding: chunked", b"1\r\n[\r\n" * 10_000, 400),
        ("Content-Length: 99999999999999999999999", b"a" * 65536, 413),
    ],
    ids=["announced", "chunked", "tiny chunks", "a number of no sense"],
)
def test_gigabyte_is_refused_at_the_bound_and_memory_stays_flat(
    server: Server, header: str, piece: bytes, expected: int
) -> None:
    before = server.megabytes
    status, headers, body, sent = server.ask(f"{HEAD}{header}\r\n\r\n", endless(piece))
    assert status == expected
    expect_json_error(status, headers, body)
    assert sent < 10 * MOST_BODY, "read no further than the bound and what lies in buffers"
    assert server.megabytes - before < 30


def test_body_without_a_length_is_not_cut_to_fit(server: Server) -> None:
    """Werkzeug hands on what fits, and a document followed by spaces would pass."""
    fits = json.dumps(hands.body()).encode().ljust(MOST_BODY)
    for body, expected in ((fits, 201), (fits + b" ", 413), (fits + b"}", 413)):
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        assert server.ask(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n", iter([chunks]))[0] == expected


NOT_HTTP = {
    "chunks that are none": f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunk of a negative size": f"{HEAD}Transfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n",
    "chunk longer than it says": f"{HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\nabcdef\r\n",
    "two lengths": f"{HEAD}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}",
    "length and chunks": f"{HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": f"{HEAD}Content-Length: -5\r\n\r\n",
    "length in words": f"{HEAD}Content-Length: five\r\n\r\n",
    "length with a sign": f"{HEAD}Content-Length: +2\r\n\r\n{{}}",
    "unknown coding": f"{HEAD}Transfer-Encoding: xchunked\r\n\r\n",
    "long line": f"GET /api/jobs?cursor={'a' * 9000} HTTP/1.1\r\nHost: x\r\n\r\n",
    "endless line": f"GET /{'a' * 1_000_000}",
    "long header": f"GET /live HTTP/1.1\r\nHost: x\r\nX-Request-ID: {'a' * 9000}\r\n\r\n",
    "many headers": "GET /live HTTP/1.1\r\nHost: x\r\n" + "X: y\r\n" * 200 + "\r\n",
    "NUL in a header": "GET /live HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\0b\r\n\r\n",
    "folded header": "GET /live HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\r\n INFO forged\r\n\r\n",
    "bare CR in a header": "GET /live HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\rINFO forged\r\n\r\n",
    "NUL in the method": "G\0T /live HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": "GET /live\r\n\r\n",
    "version to come": "GET /live HTTP/9.9\r\nHost: x\r\n\r\n",
    "bytes that are no text": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "script in the line": "GET /<script>alert(1)</script> <script> HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", NOT_HTTP)
def test_what_is_not_http_is_answered_as_json_and_never_500(server: Server, name: str) -> None:
    status, headers, body, _ = server.ask(NOT_HTTP[name])
    expect_json_error(status, headers, body)
    assert "script" not in body and "forged" not in body


def test_no_line_of_the_log_is_forged(server: Server) -> None:
    mark = "2026-01-01T00:00:00Z INFO forged"
    for escape in ("%0d%0a", "%0a", "%0d", "%c2%85", "%e2%80%a8", "%e2%80%a9", "%00", "%1b%5b2K", "%0b", "%0c", "%1c"):
        for path in (f"/x{escape}{mark}", f"/api/jobs/1{escape}{mark}", f"/api/jobs?cursor=x{escape}{mark}"):
            server.ask(f"GET {path.replace(' ', '%20')} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for name in ("X-Request-ID", "Idempotency-Key", "Host", "User-Agent", "X-Forwarded-For", "Content-Type"):
        server.ask(f"GET /x HTTP/1.1\r\nHost: localhost\r\n{name}: a\r\n{mark}: b\r\n\r\n")
        server.ask(f"GET /x HTTP/1.1\r\nHost: localhost\r\n{name}: a\x85{mark}\r\n\r\n")
    wait_for(lambda: "forged" in server.process.text, 5)
    lines = re.split(r"[\r\n\x0b\x0c\x1c\x85\u2028\u2029]", server.process.text)
    assert not [line for line in lines if line.startswith(mark)]
    assert "\x1b" not in server.process.text and "\0" not in server.process.text


def test_the_server_lives_on_and_said_nothing_of_errors(server: Server) -> None:
    assert server.ask("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 200
    assert " ERROR " not in server.process.text and "Traceback" not in server.process.text


# Paths


STEPS = [
    "..",
    "...",
    ".",
    "%2e%2e",
    "%2E.",
    "..%00",
    "..%2f",
    "..%5c",
    "..\\",
    "%c0%ae%c0%ae",
    "%252e%252e",
    "..;",
    "\u2025",
]
ENDS = ["etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "\\windows\\win.ini", "C:%5cwin.ini"]
TRAVERSALS = [f"{step}/{end}" for step in STEPS for end in ENDS[:3]] + [
    *ENDS,
    "../../../../etc/passwd",
    "....//....//etc/passwd",
    "..%c1%9cetc",
    "..%ef%bc%8fetc",
    "%00",
    "1%00",
    "1%2f..%2f2",
    "1/../../status",
    "-1",
    "+1",
    "1.0",
    "1e3",
    "0x1",
    "%20",
    "1%20",
    "%0a",
    "1;2",
    "file:%2f%2f%2fetc%2fpasswd",
    "~root",
]
assert len(TRAVERSALS) >= 60


def rules_with_a_path(app: Flask) -> list[Rule]:
    return [rule for rule in app.url_map.iter_rules() if rule.arguments]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_no_path_leads_anywhere_else(app: Flask, server: Server) -> None:
    found: dict[str, set[Any]] = {}
    rules = rules_with_a_path(app)
    assert {"/api/jobs/<int:job_id>", "/docs/static/<path:filename>"} <= {rule.rule for rule in rules}
    for rule in rules:
        method = "GET" if "GET" in (rule.methods or ()) else "POST"
        for form in TRAVERSALS:
            path = re.sub(r"<.+?>", lambda _match, form=form: form, rule.rule)
            line = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
            status, headers, body, _ = server.ask(line.encode())
            assert status == (404 if path.isascii() else 400), (path, status, body)
            assert "application/json" in headers
            found.setdefault(rule.rule, set()).add((status, body))
    for rule, answers in found.items():
        said = {body for status, body in answers if status == 404} - {'{"error":"no such address"}\n'}
        # The second is that of a name with an ending, where those are other routes.
        assert len(said) <= 2, (rule, said, "all are answered alike: nothing is told of what exists")


NUMBERS = ["0", "9999999999", "9223372036854775807", "9223372036854775808", "9" * 40, "9" * 4000, "\u0663", "00"]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:20])
def test_numbers_of_jobs_that_do_not_exist_are_all_alike(app: Flask, client: FlaskClient, number: str) -> None:
    for rule in rules_with_a_path(app):
        if "<int:job_id>" in rule.rule:
            method = "GET" if "GET" in (rule.methods or ()) else "POST"
            # As from a page of ours, or forms are refused before anybody looks for the job.
            headers = {"Sec-Fetch-Site": "same-origin"}
            answer = client.open(rule.rule.replace("<int:job_id>", number), method=method, headers=headers)
            assert answer.status_code == 404, (rule.rule, answer.text)
            assert list(answer.json) == ["error"]
    assert (client.get(f"/api/status?jobid={number}").status_code, client.get("/api/status?jobid=0").text) == (
        400,
        "{}",
    )


# Methods, types, queries, JSON


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "LOCK", "get", "X"]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("method", METHODS)
def test_every_route_answers_every_method_as_json(app: Flask, client: FlaskClient, method: str) -> None:
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<.+?>", "7", rule.rule)
        for address in (path, f"{path}/"):
            answer = client.open(address, method=method, data="{}")
            assert answer.status_code < 500, (method, address, answer.text)
            if answer.status_code >= 400:
                assert answer.mimetype == "application/json", (method, address)
                assert method == "HEAD" or list(answer.json or {"error": ""})[:1] == ["error"]
            elif rule.rule.startswith("/api"):
                assert answer.mimetype == "application/json" or method == "OPTIONS", (method, address)
            answer.close()


TYPES = [
    "",
    "text/html",
    "application/xml",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "a/b; c=\0",
    ";;;",
]
TYPES += ["application/x-www-form-urlencoded", "application/json; charset=utf-16", "application/json; charset=nope"]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", TYPES)
def test_content_types_change_nothing(client: FlaskClient, kind: str) -> None:
    good = json.dumps(hands.body())
    assert client.post("/api/submit/", data=good, headers={"Content-Type": kind}).status_code == 201
    assert client.post("/api/submit/", data="--x\r\n", headers={"Content-Type": kind}).status_code == 400
    assert client.get("/api/jobs", data=good, headers={"Content-Type": kind}).status_code == 200


QUERIES = [
    "%",
    "%zz",
    "%f",
    "%ff",
    "%c3%28",
    "%ed%a0%80",
    "%00",
    "%0d%0a",
    "a%00b",
    "%f4%90%80%80",
    "%u0041",
    "&&&=&",
    "%2500",
]
QUERIES += ["'%20OR%201=1--", "%22", "%5c", "%25", "_", "1%20", "1e3", "-1", "NaN", "Infinity", "9" * 30, "9" * 4000]
QUERIES += [
    "%d9%a3",
    "%f0%9f%92%a3",
    "a" * 5000,
    "null",
    "[]",
    "%7b%7d",
    "2020-02-30",
    "0000-00-00",
    "99999-01-01",
    "%e2%80%ae",
]


PARAMETERS = {
    "/api/status": ["jobid"],
    "/api/jobs": ["state", "storeid", "startdate", "enddate", "per_page", "cursor"],
    "/api/jobs/{job_id}/images": ["state", "error_code", "per_page", "cursor"],
    "/api/visits": ["area", "storeid", "startdate", "enddate", "format", "per_page", "cursor", "total"],
}


@pytest.mark.parametrize("path", PARAMETERS)
def test_no_query_is_an_internal_error(app: Flask, client: FlaskClient, path: str) -> None:
    hands.add_stores(app)
    address = path.format(job_id=hands.submit(client))
    pairs = [f"{name}={value}" for name, value in itertools.product(PARAMETERS[path], QUERIES)]
    for query in [*pairs, *(f"{value}={value}&{value}" for value in QUERIES), "&".join(pairs[:40])]:
        answer = client.get(f"{address}?{query}")
        assert answer.status_code in (200, 400), (query[:100], answer.text)
        assert answer.mimetype == "application/json" and len(answer.data) < 10_000, query[:100]
        assert "Traceback" not in answer.text and "sqlalchemy" not in answer.text


def of(**changes: str) -> bytes:
    """A body with raw JSON in places of fields."""
    fields = {
        "count": "1",
        "store_id": '"S1"',
        "image_url": '["https://h/1"]',
        "visit_time": '"2020-01-01"',
        "more": "",
    }
    fields |= changes
    visit = ", ".join(f'"{name}": {fields[name]}' for name in ("store_id", "image_url", "visit_time"))
    return f'{{"count": {fields["count"]}, "visits": [{{{visit}}}]{fields["more"]}}}'.encode("utf-8", "surrogatepass")


DEEP = 100_000
BROKEN = {
    "lists without end": b"[" * DEEP,
    "objects without end": b'{"a":' * DEEP,
    "lists": b"[" * DEEP + b"]" * DEEP,
    "deep metadata": of(more=', "metadata": ' + '{"a":' * DEEP + "1" + "}" * DEEP),
    "deep in what is not read": of(more=', "x": ' + "[" * DEEP + "]" * DEEP),
    "deep url": of(image_url="[" * DEEP + "]" * DEEP),
    "NaN": of(count="NaN"),
    "Infinity": of(count="Infinity"),
    "minus infinity": of(count="-Infinity"),
    "infinite time": of(visit_time="Infinity"),
    "no time": of(visit_time="NaN"),
    "large time": of(visit_time="1e308"),
    "larger time": of(visit_time="1e999"),
    "negative time": of(visit_time="-1e18"),
    "long number": of(count="1" * DEEP),
    "long exponent": of(visit_time="1e" + "9" * 1000),
    "metadata NaN": of(more=', "metadata": {"a": NaN}'),
    "metadata half a character": of(more=', "metadata": {"a": "\\ud800"}'),
    "metadata key half a character": of(more=', "metadata": {"\\udc00": 1}'),
    "metadata NUL": of(more=', "metadata": {"\\u0000": 1}'),
    "half a character": of(store_id='"\\ud800"'),
    "raw half a character": of(store_id='"\ud800"'),
    "half a character in a url": of(image_url='["https://h/\\udfff"]'),
    "NUL": of(store_id='"S\\u0000"'),
    "raw NUL": of(store_id='"S\0"'),
    "NUL in a url": of(image_url='["https://h/\\u0000"]'),
    "line end in a url": of(image_url='["https://h/\\r\\nX: y"]'),
    "line end in a store": of(store_id='"S\\r\\nforged"'),
    "not UTF-8": of(store_id='"\xff"').replace("\xff".encode(), b"\xff"),
    "UTF-16": of().decode().encode("utf-16"),
    "UTF-32": of().decode().encode("utf-32"),
    "comment": b"/* */" + of(),
    "two documents": of() + of(),
    "trailing comma": of()[:-1] + b",}",
    "single quotes": of().replace(b'"', b"'"),
    "NULs only": bytes(1000),
    "a string": b'"' + b"a" * 1_000_000 + b'"',
    "numbers": b"[" + b"1," * 500_000 + b"1]",
    "many keys": b"{" + b",".join(b'"%d":1' % n for n in range(200_000)) + b"}",
    "many bad visits": b'{"count": 300000, "visits": [' + b"1," * 299_999 + b"1]}",
    "many bad urls": of(image_url="[" + "1," * 299_999 + "1]"),
}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", BROKEN)
def test_broken_json_is_refused_at_once(client: FlaskClient, name: str) -> None:
    started = time.thread_time()
    answer = client.post("/api/submit/", data=BROKEN[name])
    assert answer.status_code == 400, answer.text[:300]
    assert list(answer.json) == ["error"] and len(answer.data) < 2000
    assert time.thread_time() - started < 1.5
    assert client.get("/api/jobs").json["results"] == []


def test_of_two_fields_of_one_name_the_last_counts(client: FlaskClient) -> None:
    """As every JSON parser that our clients use, so that nobody between us reads another body than we do."""
    assert client.post("/api/submit/", data=of(more=', "count": 2')).status_code == 400
    assert client.post("/api/submit/", data=of(count="2", more=', "count": 1')).status_code == 201


@pytest.mark.parametrize("value", ["", " ", "a" * 256, "\xe9", "a\tb", "%00"])
def test_odd_idempotency_keys_are_refused_or_kept_whole(client: FlaskClient, value: str) -> None:
    answer = client.post("/api/submit/", data=of(), headers={"Idempotency-Key": value})
    assert answer.status_code == (201 if value == "%00" else 400), answer.text
