"""Mails by SMTP: a leaf that knows a server and sends one message."""

from __future__ import annotations

import re
import smtplib
import ssl
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate
from typing import Literal

from app.errors import MailError

TIMEOUT_SECONDS = 20.0
CHECK_SECONDS = 5.0
MOST_ADDRESS = 254  # RFC 5321
# One mailbox of a name with a dot, in ASCII: what forms expect, and nothing that could end a header.
ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
                     r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The server that mails are handed to, and whom they come from."""

    host: str
    port: int
    security: Literal["none", "starttls", "tls"]
    sender: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca_bundle: str | None = None


def is_address(text: str) -> bool:
    local = text.partition("@")[0]
    is_dotted = local.startswith(".") or local.endswith(".") or ".." in local
    return len(text) <= MOST_ADDRESS and not is_dotted and ADDRESS.fullmatch(text) is not None


def send(mailbox: Mailbox, *, to: str, subject: str, text: str, reference: str) -> None:
    """Hand one mail to the server; ``reference`` is the same for the same mail, so that a repeat can be told.

    Raises MailError, ``is_final`` where the server will never take it.
    """
    message = EmailMessage()
    message["From"] = mailbox.sender
    local, _, domain = to.rpartition("@")
    message["To"] = Address(username=local, domain=domain)
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{reference}@{mailbox.sender.rpartition('@')[2].strip('>')}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    try:
        with _connected(mailbox, TIMEOUT_SECONDS) as server:
            if mailbox.user:
                server.login(mailbox.user, mailbox.password)
            server.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        raise MailError("the address is refused", is_final=all(code >= 500 for code in codes)) from error
    except (smtplib.SMTPException, OSError) as error:
        raise MailError(f"the mail server does not take it now: {type(error).__name__}", is_final=False) from error


def check(mailbox: Mailbox) -> None:
    """Find out whether the server is there and lets us in; sends nothing. Raises MailError with the reason."""
    try:
        with _connected(mailbox, CHECK_SECONDS) as server:
            if mailbox.user:
                server.login(mailbox.user, mailbox.password)
            server.noop()
    except (smtplib.SMTPException, OSError) as error:
        raise MailError(f"{type(error).__name__}: {error}"[:200], is_final=False) from error


def _connected(mailbox: Mailbox, seconds: float) -> smtplib.SMTP:
    trust = ssl.create_default_context(cafile=mailbox.ca_bundle)
    if mailbox.security == "tls":
        return smtplib.SMTP_SSL(mailbox.host, mailbox.port, timeout=seconds, context=trust)
    server = smtplib.SMTP(mailbox.host, mailbox.port, timeout=seconds)
    if mailbox.security == "starttls":
        try:
            server.starttls(context=trust)
        except BaseException:
            server.close()
            raise
    return server
