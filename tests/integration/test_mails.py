"""Mails to people who upload, by a real SMTP server on this host."""

from __future__ import annotations

import email
import io
import ssl
import subprocess
from collections.abc import Callable, Iterator
from email.message import Message
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from flask import Flask
from sqlalchemy import update

from app import mails
from app.domain import notices, reports, submissions, transactions, unpacking, uploads
from app.errors import SettingError
from app.models import Upload
from app.sql import db_now
from config import Settings
from testbed.processes import free_port
from tests.integration.test_reports import CAT, build, job_of, settle, zipped


class Box:
    """What the server took, and what it answers to the next one."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Message]] = []
        self.answers: list[str] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody@"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.answers:
            return self.answers.pop(0)
        self.mails.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=default)))
        return "250 OK"


@pytest.fixture
def box() -> Box:
    return Box()


@pytest.fixture
def server(box: Box) -> Iterator[Controller]:
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller
    controller.stop()


def settings_of(server: Controller) -> dict[str, Any]:
    return {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": server.port,
        "SMTP_SECURITY": "none",
        "SMTP_FROM": "photos@example.com",
        "PUBLIC_URL": "https://photos.example",
    }


@pytest.fixture
def app(make_app: Callable[..., Flask], tmp_path: Path, server: Controller) -> Iterator[Flask]:
    app = make_app(STORAGE_URL=(tmp_path / "files").as_uri(), **settings_of(server))
    with app.app_context():
        yield app


def ready(address: str) -> str:
    upload_id = uploads.new_id()
    uploads.add(upload_id, "cat.png", io.BytesIO(CAT))
    uploads.hand_in(upload_id, address)
    settle(job_of(upload_id))
    assert not notices.send_next()
    build()
    return upload_id


def make_due() -> None:
    transactions.run(lambda session: session.execute(update(Upload).values(due_at=db_now(-1))))


def test_a_mail_with_the_link_is_sent_once_when_the_results_are_ready(app: Flask, box: Box) -> None:
    upload_id = ready("who@example.com")
    assert notices.send_next()
    assert not notices.send_next()
    ((to, mail),) = box.mails
    assert to == ["who@example.com"]
    assert (mail["From"], mail["To"]) == ("photos@example.com", "who@example.com")
    assert mail["Subject"] == "Your results are ready"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert f"https://photos.example/results/{upload_id}\r\n" in mail.get_content()  # type: ignore[attr-defined]
    assert submissions.get(upload_id).upload.mailed_at is not None


def test_without_an_address_none_is_sent(app: Flask, box: Box) -> None:
    ready("")
    assert not notices.send_next()
    assert box.mails == []


def test_a_refused_archive_is_told_by_mail_too(app: Flask, box: Box) -> None:
    upload_id = uploads.new_id()
    uploads.add(upload_id, "a.zip", io.BytesIO(zipped(inner=zipped(a=CAT))))
    uploads.hand_in(upload_id, "who@example.com")
    assert unpacking.open_next()
    assert notices.send_next()
    ((_, mail),) = box.mails
    assert mail["Subject"] == "Your photos could not be taken"
    assert "archive within the archive" in mail.get_content()  # type: ignore[attr-defined]


def test_a_server_in_trouble_is_asked_again_later(app: Flask, box: Box) -> None:
    ready("who@example.com")
    box.answers = ["451 try again", "451 try again"]
    for _ in range(3):
        assert notices.send_next()
        assert not notices.send_next()  # it waits
        make_due()
    assert len(box.mails) == 1


def test_an_address_that_is_refused_for_good_is_given_up(app: Flask, box: Box) -> None:
    upload_id = ready("nobody@example.com")
    assert notices.send_next()
    assert not notices.send_next()
    assert submissions.get(upload_id).upload.due_at is None
    assert box.mails == []


def test_a_mail_that_is_sent_again_has_the_same_id(app: Flask, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    ready("who@example.com")
    upload = unpacking.leases.claim(Upload)
    assert upload is not None
    notices._send(upload.row)
    make_due()
    notices.send_next()
    first, second = (mail["Message-ID"] for _, mail in box.mails)
    assert first == second


def test_without_a_server_none_is_promised_and_none_is_tried(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    app = make_app(STORAGE_URL=(tmp_path / "files").as_uri())
    with app.app_context():
        assert "No mails are sent here" in app.test_client().get("/upload").text
        ready("who@example.com")
        assert notices.send_next()
        assert not notices.send_next()


def test_the_page_promises_one_where_there_is_a_server(app: Flask) -> None:
    text = app.test_client().get("/upload").text
    assert "You get one mail" in text
    assert 'name="email"' in text


def test_a_server_without_a_sender_or_an_address_of_ours_stops_the_start() -> None:
    with pytest.raises(SettingError, match="SMTP_FROM and PUBLIC_URL"):
        Settings.from_env({"SMTP_HOST": "mail.example"})


def certificate(folder: Path) -> tuple[Path, Path]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    argv += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(argv, check=True, capture_output=True)
    return key, cert


def test_an_account_is_used_by_tls_only_with_a_certificate_that_is_trusted(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mails, "TIMEOUT_SECONDS", 2.0)  # this server says no more to whom it does not know
    key, cert = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    class Demanding(Controller):
        def factory(self) -> SMTP:
            def check(_server: Any, _session: Any, _envelope: Any, _kind: str, data: Any) -> AuthResult:
                return AuthResult(success=(data.login, data.password) == (b"me", b"secret"))

            options = {"tls_context": context, "require_starttls": True, "auth_required": True}
            return SMTP(self.handler, authenticator=check, **options)

    server = Demanding(box, hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        mailbox = mails.Mailbox("127.0.0.1", server.port, "starttls", "photos@example.com", "me", "secret", str(cert))
        mails.send(mailbox, to="who@example.com", subject="s", text="t", reference="r")
        assert len(box.mails) == 1
        for wrong in (
            mails.Mailbox("127.0.0.1", server.port, "starttls", "photos@example.com", "me", "secret"),
            mails.Mailbox("127.0.0.1", server.port, "starttls", "photos@example.com", "me", "wrong", str(cert)),
            mails.Mailbox("127.0.0.1", server.port, "none", "photos@example.com"),
        ):
            with pytest.raises(mails.MailError):
                mails.send(wrong, to="who@example.com", subject="s", text="t", reference="r")
        assert len(box.mails) == 1
    finally:
        server.stop()


def test_reports_without_uploads_send_nothing(app: Flask) -> None:
    assert reports.wake() == 0
    assert not notices.send_next()
