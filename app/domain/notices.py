"""Mails to people who handed in photos: where the results are, or why there are none."""

from __future__ import annotations

from contextlib import suppress

import structlog

from app import mails
from app.domain import leases, transactions
from app.errors import MailError
from app.extensions import settings
from app.mails import Mailbox
from app.models import Upload, UploadState
from app.sql import db_now

log = structlog.get_logger()

MOST_ATTEMPTS = 8
RETRY_SECONDS = 60.0
SUBJECTS = {False: "Your results are ready", True: "Your photos could not be taken"}
READY = """Hello,

the photos that you handed in have been worked on. Your results are at

  {address}

There you see each photo with what was found on it, and can download everything as a zip.{deletion}
"""
REFUSED = """Hello,

the photos that you handed in could not be taken: {reason}.

You can try again at

  {address}
"""


def is_possible() -> bool:
    """Whether mails are sent at all: only then is one promised."""
    return bool(settings.SMTP_HOST and settings.PUBLIC_URL)


def send_next() -> bool:
    """Send the mail that has been due for longest; False where none is.

    Sent at least once: a worker that dies between sending and writing that down sends it again, under the same id.
    """
    lease = leases.claim(Upload, Upload.state != UploadState.QUEUED, Upload.email.is_not(None))
    if lease is None:
        return False
    upload: Upload = lease.row
    with suppress(leases.LeaseLostError):
        if not is_possible() or upload.attempts > MOST_ATTEMPTS:
            transactions.run(lambda session: lease.write(session, due_at=None))
            return True
        try:
            _send(upload)
        except MailError as error:
            log.warning("mail not sent", upload=upload.id[:8], reason=str(error), attempt=upload.attempts)
            if error.is_final:
                transactions.run(lambda session: lease.write(session, due_at=None))
            else:
                lease.give_back(delay_seconds=RETRY_SECONDS * 2 ** (upload.attempts - 1))
        else:
            transactions.run(lambda session: lease.write(session, mailed_at=db_now(), due_at=None, attempts=0))
            log.info("mail sent", upload=upload.id[:8])
    return True


def _send(upload: Upload) -> None:
    is_refused = upload.state is UploadState.REFUSED
    address = settings.PUBLIC_URL.rstrip("/") + ("/upload" if is_refused else f"/results/{upload.id}")
    days = settings.RETENTION_DAYS
    deletion = f"\nThey are deleted {days:g} days after they were ready." if days else ""
    text = (REFUSED if is_refused else READY).format(address=address, reason=upload.error_message, deletion=deletion)
    mails.send(mailbox(), to=str(upload.email), subject=SUBJECTS[is_refused], text=text, reference=upload.id)


def mailbox() -> Mailbox:
    """The server that mails are handed to."""
    return Mailbox(
        host=settings.SMTP_HOST,
        port=settings.SMTP_PORT,
        security=settings.SMTP_SECURITY,
        sender=settings.SMTP_FROM,
        user=settings.SMTP_USER,
        password=settings.SMTP_PASSWORD,
        ca_bundle=settings.SMTP_CA_BUNDLE or None,
    )
