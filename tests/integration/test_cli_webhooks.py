"""``imagejobs webhooks`` against the service itself, over HTTP."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from werkzeug.serving import make_server

from app.cli import main, webhooks
from app.domain import sender
from testbed.receiver import Receiver
from tests.integration import hands
from tests.integration.receivers import is_signed, outbox, sending

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
Call = Callable[..., Result]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def call(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    monkeypatch.setattr(sender, "LOOK_SECONDS", 0.05)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def run(*arguments: object) -> Result:
        environment = {"IMAGEJOBS_URL": f"http://127.0.0.1:{server.port}"}
        return CliRunner().invoke(main, ["webhooks", *map(str, arguments)], env=environment)

    yield run
    server.shutdown()
    server.server_close()


def test_add_prints_the_secret_and_nothing_else(call: Call, receiver: Receiver) -> None:
    made = call("add", receiver.url("/hook"), "--event", "visit.settled", "--description", "till 7")
    assert made.exit_code == 0, made.output
    assert re.fullmatch(r"whsec_.{44}\n", made.stdout)
    assert "webhook 1; keep the secret" in made.stderr
    [row] = json.loads(call("list", "--json").stdout)
    assert (row["url"], row["events"], row["description"]) == (receiver.url("/hook"), ["visit.settled"], "till 7")
    assert re.search(r"^1 +http://127\.0\.0\.2.* +visit\.settled +till 7 +well$", call("list").stdout, re.MULTILINE)
    assert "whsec_" not in call("list").stdout + call("list", "--csv").stdout


def test_what_cannot_be_added_says_why(call: Call) -> None:
    refused = call("add", "ftp://nowhere/")
    assert (refused.exit_code, refused.stderr) == (2, "Error: url: not an http(s) URL\n")


def test_test_says_what_came_of_it(app: Flask, call: Call, receiver: Receiver) -> None:
    secret = call("add", receiver.url("/hook")).stdout.strip()
    receiver.script = ["/hook", "/status?code=500"]
    with sending(app):
        good, bad = call("test", 1), call("test", 1)
    assert good.exit_code == 0 and re.fullmatch(r"delivery 1: it arrived, HTTP 200 in \d\.\d\d s\n", good.stdout)
    assert bad.exit_code == 1
    assert bad.stdout == "delivery 2: it did not arrive (http_500: eeeee), it will be tried again\n"
    assert is_signed(receiver.messages[0], secret)
    assert "failing since" in call("list").stdout


def test_a_sender_that_does_not_run_is_told(call: Call, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "TEST_SECONDS", 0.2)
    call("add", receiver.url("/hook"))
    waited = call("test", 1)
    assert waited.exit_code == 2
    assert "delivery 1 was not sent within 0.2 s: is `imagejobs deliver` running?" in waited.stderr


def test_deliveries_are_listed_and_sent_again(app: Flask, call: Call, receiver: Receiver) -> None:
    call("add", receiver.url("/hook"))
    receiver.script = ["/status?code=410"]
    hands.submit(app.test_client(), hands.visit("NOWHERE"))
    with sending(app) as wait:
        wait(lambda: outbox(app)[0].finished_at)
        assert re.search(r"^1 +job\.failed +1 +failed +1 +http_410 ", call("deliveries", 1).stdout, re.MULTILINE)
        refused = call("redeliver", 1)
        assert (refused.exit_code, refused.stderr) == (2, "Error: the webhook is disabled: enable it first\n")
        app.test_client().patch("/api/webhooks/1", json={"enabled": True})
        assert call("redeliver", 1).exit_code == 0
    assert call("deliveries", 1, "--state", "failed", "--json").stdout == "[]\n"
    [row] = json.loads(call("deliveries", 1, "--json").stdout)
    assert [tried["status"] for tried in row["tries"]] == [410, 200]


def test_remove_says_what_is_gone(call: Call, receiver: Receiver) -> None:
    call("add", receiver.url("/hook"))
    assert call("remove", 1).stdout == f"webhook 1 ({receiver.url('/hook')}) is removed\n"
    again = call("remove", 1)
    assert (again.exit_code, again.stderr) == (2, "Error: no such webhook\n")
    assert call("list", "--json").stdout == "[]\n"
