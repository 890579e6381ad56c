"""What the person who is called at night wants to know, in sentences; every question is asked even if others fail."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import redis
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from PIL import Image
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import mails
from app.domain import (
    audit,
    builder,
    decoding,
    deliveries,
    feeds,
    health,
    keys,
    notices,
    sharing,
    transactions,
    visit_sums,
    webhooks,
    workers,
)
from app.errors import DecodeError, MailError, StorageError, UnavailableError
from app.extensions import MIGRATIONS, db, settings, storage
from app.models import ALL_JOBS, Chunk, Job, JobState
from app.processors import detector
from app.sql import db_now

SLOW_ROUND_TRIP_SECONDS = 0.05
LONG_DUE_SECONDS = 300.0
STUCK_WORKER_SECONDS = 180.0
CLOCK_SECONDS = 2.0
LONG_WAITING_SECONDS = 60.0
LOW_DISK, FULL_DISK = 0.10, 0.02  # of the whole


class Level(StrEnum):
    FINE = "fine"
    LOOK = "look"  # it works, but not as it should
    BAD = "BAD"  # work stands still, or may be lost


@dataclass(frozen=True, slots=True)
class Answer:
    level: Level
    about: str
    sentence: str
    is_unanswered: bool = False  # since the database does not answer


Answers = Iterator[tuple[Level, str]]


def examine() -> Iterator[Answer]:
    """Ask everything, an answer at a time as it comes; writes nothing."""
    for about, ask in QUESTIONS.items():
        try:
            for level, sentence in ask():
                yield Answer(level, about, sentence)
        except (UnavailableError, DBAPIError) as error:
            reason = getattr(error.__cause__, "orig", None) or getattr(error, "orig", error)
            yield Answer(
                Level.BAD, about, f"cannot be told: the database does not answer ({reason})", is_unanswered=True
            )


def _settings() -> Answers:
    odd = []
    if settings.FETCH_CONNECT_TIMEOUT_SECONDS > settings.FETCH_TIMEOUT_SECONDS:
        odd.append("FETCH_CONNECT_TIMEOUT_SECONDS is more than FETCH_TIMEOUT_SECONDS, which ends downloads first")
    if settings.LEASE_SECONDS < 10:
        odd.append(f"LEASE_SECONDS={settings.LEASE_SECONDS:g} takes work from workers that are merely slow to write")
    if settings.SLOTS < settings.FETCH_DOWNLOADS:
        odd.append("SLOTS is less than FETCH_DOWNLOADS, so never so many downloads run")
    if settings.CHUNK_SIZE > settings.SLOTS:
        odd.append("CHUNK_SIZE is more than SLOTS, so a worker holds images that others could work on")
    for sentence in odd:
        yield Level.LOOK, sentence
    if not odd:
        yield Level.FINE, "none looks wrong"


def _database() -> Answers:
    health.check_database()  # connects; the next one tells the round trip
    started = time.monotonic()
    health.check_database()
    seconds = time.monotonic() - started
    name = db.engine.url.render_as_string(hide_password=True)
    level = Level.FINE if seconds < SLOW_ROUND_TRIP_SECONDS else Level.LOOK
    yield level, f"{name} answers in {1000 * seconds:.1f} ms"
    yield from transactions.read(_tables)
    ask = _mysql_settings if db.engine.dialect.name == "mysql" else _sqlite_settings
    yield from transactions.read(ask)


def _tables(session: Session) -> list[tuple[Level, str]]:
    found = MigrationContext.configure(session.connection()).get_current_revision()
    wanted = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    if found == wanted:
        return [(Level.FINE, f"its tables are of revision {found}, which this release wants")]
    return [(Level.BAD, f"its tables are of revision {found}, this release wants {wanted}: run db_create.py")]


def _mysql_settings(session: Session) -> list[tuple[Level, str]]:
    found = session.execute(
        text(
            "SELECT VERSION() AS version, @@innodb_flush_log_at_trx_commit AS flush, @@GLOBAL.sql_mode AS mode,"
            " @@character_set_database AS charset, @@max_connections AS connections"
        )
    ).one()
    answers = [(Level.FINE, f"version {found.version}, at most {found.connections} connections")]
    if found.flush != 1:
        lost = f"innodb_flush_log_at_trx_commit is {found.flush}: a power failure loses what was answered; set it to 1"
        answers.append((Level.BAD, lost))
    if "STRICT_TRANS_TABLES" not in found.mode and "STRICT_ALL_TABLES" not in found.mode:
        answers.append((Level.LOOK, "sql_mode is not strict: ours is, but other clients may store cut values"))
    if found.charset != "utf8mb4":
        answers.append((Level.LOOK, f"its character set is {found.charset}, not utf8mb4"))
    return answers


def _sqlite_settings(session: Session) -> list[tuple[Level, str]]:
    version = session.scalar(text("SELECT sqlite_version()"))
    mode = session.scalar(text("PRAGMA journal_mode"))
    return [(Level.FINE if mode == "wal" else Level.LOOK, f"SQLite {version}, journal {mode}; for one host only")]


def _broker() -> Answers:
    with health.broker_client() as client:
        try:
            started = time.monotonic()
            client.ping()
            yield Level.FINE, f"it answers in {1000 * (time.monotonic() - started):.1f} ms"
            policy = client.info("memory").get("maxmemory_policy")
        except (redis.RedisError, OSError) as error:
            yield Level.BAD, f"it does not answer ({error}): jobs are accepted, workers look for them by themselves"
            return
    if policy not in (None, "noeviction"):
        yield Level.LOOK, f"maxmemory-policy is {policy}: a full broker forgets bells instead of refusing them"


def _workers() -> Answers:
    known = workers.find()
    alive = [worker for worker, is_alive in known if is_alive]
    if not alive:
        yield Level.BAD, f"none is alive, {len(known)} were seen in the last day: start one"
        return
    taking = [worker for worker in alive if worker.slots]
    if taking:
        slots, in_flight = sum(worker.slots for worker in taking), sum(worker.in_flight for worker in taking)
        yield Level.FINE, f"{len(taking)} are alive with {slots} slots and hold {in_flight} images"
    else:
        yield Level.BAD, "none that is alive takes images: start one whose WORKER_TASKS does not leave them out"
    if len(alive) > len(taking):
        yield Level.FINE, f"{len(alive) - len(taking)} are alive for reports alone, and take no images"
    for worker in alive:
        still = (worker.seen_at - worker.progressed_at).total_seconds()
        if still > STUCK_WORKER_SECONDS:
            yield Level.LOOK, f"{worker.name} holds {worker.in_flight} images and wrote nothing for {_span(still)}"
    if len({worker.version for worker in alive}) > 1:
        versions = sorted({worker.version for worker in alive})
        yield Level.LOOK, f"they are of different releases: {', '.join(versions)}"
    if gone := len(known) - len(alive):
        yield Level.LOOK, f"{gone} fell silent in the last day without a good-bye: killed, or their hosts are gone"


def _work() -> Answers:
    due, oldest, leased, now = transactions.read(_count_chunks)
    ongoing = transactions.read(
        lambda session: session.execute(
            select(func.count(), func.sum(Job.images_open)).where(Job.state == JobState.ONGOING)
        ).one()
    )
    yield Level.FINE, f"{ongoing[0]} jobs are ongoing with {ongoing[1] or 0} open images, {leased} chunks are leased"
    if due:
        age = (now - oldest).total_seconds()
        level = Level.LOOK if age > LONG_DUE_SECONDS else Level.FINE
        more = ": more workers would help, if they are all busy" if level is Level.LOOK else ""
        yield level, f"{due} chunks are due and wait for a worker, the oldest for {_span(age)}{more}"
    for finding in transactions.read(audit.find_stalled):
        yield Level.BAD, finding.message


def _reports() -> Answers:
    count, seconds = builder.count_due()
    if seconds > LONG_DUE_SECONDS:
        told = f"{count} archives, reports, tables and mails wait for a worker, the first for {_span(seconds)}"
        yield Level.LOOK, f"{told}: is there one whose WORKER_TASKS does not leave reports out, is it busy?"
    else:
        yield Level.FINE, f"{count} archives, reports, tables and mails are due"


def _count_chunks(session: Session) -> Any:
    is_due = Chunk.due_at <= db_now()
    due = session.execute(select(func.count(), func.min(Chunk.due_at)).where(is_due)).one()
    leased = session.scalar(select(func.count()).where(Chunk.due_at > db_now(), Chunk.claimed_at.is_not(None)))
    return (*due, leased, session.scalars(select(db_now())).one())


def _webhooks() -> Answers:
    count, oldest = deliveries.count_due()
    if not oldest or oldest < deliveries.LATE_SECONDS:
        yield Level.FINE, f"messages that are due: {count}"
    else:
        since = _span(oldest)
        yield Level.BAD, f"messages that are due: {count}, the oldest for {since}: is `imagejobs deliver` running?"
    for webhook, seconds in webhooks.find_failing():
        name = f"webhook {webhook.id}" if webhook.job_id == ALL_JOBS else f"the callback of job {webhook.job_id}"
        yield Level.LOOK, f"{name} to {webhook.host} fails for {_span(seconds)}: {webhook.last_error}"


def _keys() -> Answers:
    if settings.AUTH == "open":
        yield Level.FINE, "none is needed: AUTH=open serves this host only"
        return
    count, admins = keys.count_valid()
    if not admins:
        yield Level.LOOK, "no valid one has the scope admin: imagejobs keys create --scope admin makes one"
    if count or admins:
        yield Level.FINE, f"{count} are valid, {admins} of them with the scope admin"


def _lists() -> Answers:
    standings = feeds.standings()
    for found in standings:
        told = f"queue:{found.queue.value}: {found.listed} images lie there, {found.waiting} wait to be put on"
        if not found.waiting or found.seconds < LONG_WAITING_SECONDS:
            yield Level.FINE, told
        elif found.listed + feeds.MOST_A_BATCH > settings.RESULTS_QUEUE_MAX:
            yield Level.LOOK, f"{told}: it is full, and nobody takes anything off"
        else:
            since = _span(found.seconds)
            yield Level.BAD, f"{told}, the first for {since}: is `imagejobs recover` running, is Redis there?"
    if not standings:
        yield Level.FINE, "nothing waits to be told on queue:images or queue:batch"


def _sums() -> Answers:
    count, seconds = visit_sums.waiting()
    told = f"{count}{' or more' if count == visit_sums.MOST_COUNTED else ''} changes of visits wait to be added up"
    if not count or (seconds is not None and seconds < LONG_WAITING_SECONDS):
        yield Level.FINE, told
        return
    since = "since before this release" if seconds is None else f"the first for {_span(seconds)}"
    why = "is `imagejobs recover` running, does its log say `visits not added up`?"
    yield Level.LOOK, f"{told}, {since}: pages stay right and get slower; {why}"


def _disk() -> Answers:
    folder = settings.DATA_DIR.resolve()
    if not folder.is_dir():
        yield Level.LOOK, f"DATA_DIR={folder} is not there"
        return
    usage = shutil.disk_usage(folder)
    free = usage.free / usage.total
    level = Level.BAD if free < FULL_DISK else Level.LOOK if free < LOW_DISK else Level.FINE
    yield level, f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB are free at {folder}"


def _storage() -> Answers:
    started = time.monotonic()
    try:
        storage.check()
        yield Level.FINE, f"{storage.name} answers in {1000 * (time.monotonic() - started):.1f} ms"
        if sharing.check():
            yield Level.FINE, "its files are those that the other hosts see"
    except StorageError as error:
        yield Level.BAD, f"{storage.name}: {error.message}"


def _detector() -> Answers:
    """In a child, as photos are: this may be a web process, which has no use for a model."""
    grey = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(
        grey, "JPEG" if "JPEG" in settings.image_formats else settings.image_formats[0]
    )
    try:
        entry = json.loads(decoding.work_on(grey.getvalue(), [detector.NAME]).results or "{}")[detector.NAME]
    except DecodeError as error:
        yield Level.BAD, f"it cannot be tried here: {error.message}"
        return
    if "error" in entry:
        yield Level.BAD, entry["error"]["message"].removeprefix("SettingError: ")
    else:
        yield Level.FINE, f"{entry['result']['model']} runs here"


def _mail() -> Answers:
    if not settings.SMTP_HOST:
        yield Level.FINE, "none is sent, and none promised: SMTP_HOST is not set"
        return
    server = f"{settings.SMTP_HOST}:{settings.SMTP_PORT}"
    try:
        mails.check(notices.mailbox())
        yield Level.FINE, f"{server} lets us in"
    except MailError as error:
        yield Level.BAD, f"{server} does not take mails: {error}"


def _clock() -> Answers:
    theirs = transactions.read(lambda session: session.scalars(select(db_now())).one())
    apart = (datetime.now(UTC).replace(tzinfo=None) - theirs).total_seconds()
    if abs(apart) <= CLOCK_SECONDS:
        yield Level.FINE, "this host and the database agree on the time"
    else:
        way = "ahead of" if apart > 0 else "behind"
        yield Level.LOOK, f"this host is {_span(abs(apart))} {way} the database: no harm to jobs, but logs mislead"


def _span(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


QUESTIONS: dict[str, Callable[[], Answers]] = {
    "settings": _settings,
    "keys": _keys,
    "disk": _disk,
    "storage": _storage,
    "database": _database,
    "broker": _broker,
    "clock": _clock,
    "workers": _workers,
    "work": _work,
    "reports": _reports,
    "webhooks": _webhooks,
    "lists": _lists,
    "sums": _sums,
    "detector": _detector,
    "mail": _mail,
}
