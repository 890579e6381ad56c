"""``imagejobs doctor`` says what is wrong in sentences, whatever is down."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from click.testing import CliRunner, Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text, update

from app.cli import main
from app.domain import doctor, keys, transactions, uploads, visit_sums, workers
from app.domain.access import Scope
from app.domain.keys import NewKey
from app.models import Delivery, Upload, VisitChange, Webhook
from app.sql import db_now
from tests import onnx_models
from tests.conftest import Backend
from tests.integration import hands
from tests.integration.receivers import subscribe
from tests.pictures import photo


@pytest.fixture(autouse=True)
def environment(app: Flask, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", backend.database_url)
    monkeypatch.setenv("REDIS_URL", backend.redis_url)
    monkeypatch.setenv("DATA_DIR", str(backend.data_dir))


def examined() -> Result:
    return CliRunner().invoke(main, ["doctor"])


def start_one(app: Flask) -> None:
    with app.app_context():
        workers.join(workers.Identity("host:1", "host", 1, 500, "0.1"))


def test_sound_service_is_fine(app: Flask) -> None:
    start_one(app)
    found = examined()
    assert found.exit_code == 0, found.output
    assert "fine  workers: 1 are alive with 500 slots and hold 0 images" in found.output
    assert "fine  broker: it answers in" in found.output


def test_keys_are_counted_and_a_service_that_nobody_can_enter_is_told(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "fine  keys: none is needed: AUTH=open serves this host only" in examined().output
    monkeypatch.setenv("AUTH", "keys")
    assert "look  keys: no valid one has the scope admin" in examined().output
    with app.app_context():
        keys.create(NewKey(scopes=frozenset({Scope.READ})))
        keys.create(NewKey(scopes=frozenset({Scope.ADMIN}), days=1))
        keys.revoke(keys.create(NewKey()).key.prefix)
    assert "fine  keys: 2 are valid, 1 of them with the scope admin" in examined().output


def test_no_worker_is_bad(app: Flask) -> None:
    found = examined()
    assert found.exit_code == 1
    assert "BAD   workers: none is alive, 0 were seen in the last day: start one" in found.output


def test_stuck_worker_is_told(app: Flask) -> None:
    start_one(app)
    with app.app_context():
        stuck = "UPDATE workers SET in_flight = 7, progressed_at = '2020-01-01 00:00:00.000000'"
        transactions.run(lambda session: session.execute(text(stuck)))
    assert "look  workers: host:1 holds 7 images and wrote nothing for" in examined().output


def test_workers_for_reports_alone_lack_no_images_and_do_not_stand_for_those_that_take_them(app: Flask) -> None:
    with app.app_context():
        workers.join(workers.Identity("host:2", "host", 2, 0, "0.1"))
    alone = examined()
    assert alone.exit_code == 1
    assert "BAD   workers: none that is alive takes images: start one" in alone.output
    start_one(app)
    both = examined()
    assert both.exit_code == 0, both.output
    assert "fine  workers: 1 are alive with 500 slots and hold 0 images" in both.output
    assert "fine  workers: 1 are alive for reports alone, and take no images" in both.output


def test_reports_that_nobody_builds_are_told(app: Flask) -> None:
    with app.app_context():
        upload_id = uploads.new_id()
        uploads.add(upload_id, "cat.png", io.BytesIO(photo("chelsea.png")))
        uploads.hand_in(upload_id, "")
    assert "fine  reports: 1 archives, reports, tables and mails are due" in examined().output
    with app.app_context():
        late = update(Upload).values(due_at=db_now(-7200.0))
        transactions.run(lambda session: session.execute(late))
    told = "look  reports: 1 archives, reports, tables and mails wait for a worker, the first for 2 hours: is there one"
    assert told in examined().output


def test_changes_that_nobody_adds_up_are_told_however_many_there_are(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(at: Any) -> None:
        with app.app_context():
            transactions.run(lambda session: session.execute(update(VisitChange).values(noted_at=at)))

    def found() -> str:
        with app.app_context():
            [(level, sentence)] = doctor.QUESTIONS["sums"]()
        return f"{level}: {sentence}"

    assert found() == "fine: 0 changes of visits wait to be added up"
    hands.submit(client, *(hands.visit("NOWHERE") for _ in range(5)))
    assert found() == "fine: 5 changes of visits wait to be added up"
    noted(db_now(-7200.0))
    assert found().startswith("look: 5 changes of visits wait to be added up, the first for 2 hours: pages stay right")
    assert "sums: 5 changes of visits wait to be added up, the first for 2 hours" in examined().output
    noted(None)
    assert found().startswith("look: 5 changes of visits wait to be added up, since before this release: ")
    monkeypatch.setattr(visit_sums, "MOST_COUNTED", 3)
    assert found().startswith("look: 3 or more changes of visits wait to be added up")
    with app.app_context():
        assert visit_sums.fold() == 5
    assert found() == "fine: 0 changes of visits wait to be added up"


def test_broker_that_is_away_is_told(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    start_one(app)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    found = examined()
    assert found.exit_code == 1
    assert "BAD   broker: it does not answer" in found.output


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_database_that_is_away_is_told_and_the_rest_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql+pymysql://nobody:secret@127.0.0.1:1/nothing")
    found = examined()
    assert found.exit_code == 2
    assert "BAD   database: cannot be told: the database does not answer" in found.output
    assert "fine  broker: it answers in" in found.output
    assert "secret" not in found.output


def test_old_tables_are_told(app: Flask) -> None:
    start_one(app)
    change = "UPDATE alembic_version SET version_num = '{}'"
    with app.app_context():
        now = transactions.read(lambda session: session.scalar(text("SELECT version_num FROM alembic_version")))
        transactions.run(lambda session: session.execute(text(change.format("0001"))))
    found = examined()
    with app.app_context():
        transactions.run(lambda session: session.execute(text(change.format(now))))
    assert (
        f"BAD   database: its tables are of revision 0001, this release wants {now}: run db_create.py" in found.output
    )


def test_a_detector_that_cannot_be_used_is_told(app: Flask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "fine  detector: ssd_mobilenet_v2_oidv4 runs here" in examined().output
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    odd = onnx_models.write(tmp_path / "odd.onnx", "yolov8", [[16, 16, 16, 16, 1]], names="{0: 'a', 1: 'b'}")
    for path, sentence in ((broken, "cannot be opened"), (odd, "of no known layout")):
        monkeypatch.setenv("DETECTOR_MODEL", str(path))
        found = examined()
        [line] = [line for line in found.output.splitlines() if "detector:" in line]
        assert line.startswith("BAD") and path.name.removesuffix(".onnx") in line and sentence in line, line
        assert found.exit_code == 1


def test_a_mail_server_that_is_not_there_is_told(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "fine  mail: none is sent, and none promised: SMTP_HOST is not set" in examined().output
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("SMTP_PORT", str(port))
    monkeypatch.setenv("SMTP_SECURITY", "none")
    monkeypatch.setenv("SMTP_FROM", "photos@example.com")
    monkeypatch.setenv("PUBLIC_URL", "http://photos.example")
    assert f"BAD   mail: 127.0.0.1:{port} does not take mails: ConnectionRefusedError" in examined().output
    server = Controller(Sink(), hostname="127.0.0.1", port=port)
    server.start()
    try:
        assert f"fine  mail: 127.0.0.1:{port} lets us in" in examined().output
    finally:
        server.stop()


def test_odd_settings_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASE_SECONDS", "2")
    assert "look  settings: LEASE_SECONDS=2 takes work from workers" in examined().output


def test_answers_come_as_json_too() -> None:
    answers = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    assert {each["about"] for each in answers} == {
        "settings",
        "keys",
        "disk",
        "storage",
        "database",
        "broker",
        "clock",
        "workers",
        "work",
        "reports",
        "lists",
        "sums",
        "webhooks",
        "detector",
        "mail",
    }


def test_webhooks_that_nobody_sends_are_bad_and_failing_receivers_worth_a_look(app: Flask, client: FlaskClient) -> None:
    start_one(app)
    assert client.get("/health").json == {"status": "ok"}
    webhook = subscribe(client, events=["job.failed"])
    hands.submit(client, hands.visit("NOWHERE"))
    assert "fine  webhooks: messages that are due: 1" in examined().output
    with app.app_context():
        late = update(Delivery).values(due_at=db_now(-3600.0))
        failing = update(Webhook).values(failing_since=db_now(-7200.0), last_error="http_500")
        transactions.run(lambda session: [session.execute(late), session.execute(failing)])
    found = examined()
    assert found.exit_code == 1
    told = "BAD   webhooks: messages that are due: 1, the oldest for 60 minutes: is `imagejobs deliver` running?"
    assert told in found.output
    assert f"look  webhooks: webhook {webhook} to hooks.example:443 fails for 2 hours: http_500" in found.output
    assert client.get("/health").json == {"status": "degraded", "webhooks": "late"}
