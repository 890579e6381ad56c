"""What the lists of the client show: ``*_TABLE`` for people, ``*_CELLS`` in CSV."""

from __future__ import annotations

from collections.abc import Callable

from app.cli.output import Column, Row


def _images(state: str) -> Callable[[Row], object]:
    return lambda row: row.get("images", {}).get(state)


def _seconds(field: str) -> Callable[[Row], object]:
    return lambda row: None if row.get(field) is None else f"{row[field]:.2f}"


def _size(row: Row) -> str | None:
    return f"{row['width']}x{row['height']}" if row.get("width") else None


def _example(field: str) -> Callable[[Row], object]:
    return lambda row: next((example.get(field) for example in row.get("examples", [])), None)


def _plain(*names: str) -> list[Column]:
    return [Column(name, name) for name in names]


IMAGE_TABLE = [
    Column("#", "seq", 6),
    Column("url", "url"),
    Column("state", "state", 9),
    Column("error", "error_code", 18),
    Column("size", _size, 11),
    Column("perimeter", "perimeter", 9),
    Column("seconds", _seconds("seconds"), 7),
    Column("attempts", "attempts", 8),
    Column("reason", "error_message"),
]
IMAGE_CELLS = _plain(
    *("seq", "visit", "url", "state", "error_code", "error_message", "width", "height", "perimeter", "format", "bytes"),
    *("seconds", "attempts"),
)

ERROR_TABLE = [
    Column("error", "error_code", 18),
    Column("images", "images", 7),
    Column("for example", _example("seq"), 11),
    Column("url", _example("url")),
    Column("reason", _example("error_message")),
]

JOB_TABLE = [
    Column("job", "job_id", 8),
    Column("state", "state", 9),
    Column("priority", "priority", 8),
    Column("visits", "visits", 7),
    Column("images", _images("total"), 7),
    Column("done", _images("done"), 7),
    Column("failed", _images("failed"), 7),
    Column("open", _images("open"), 7),
    Column("created", "created_at", 27),
    Column("finished", "finished_at", 27),
]

VISIT_TABLE = [
    Column("store", "store_id", 12),
    Column("name", "store_name"),
    Column("area", "area", 8),
    Column("date", "date", 27),
    Column("perimeter", "perimeter", 10),
    Column("images", "images", 6),
    Column("seconds", _seconds("average_seconds"), 7),
]
VISIT_CELLS = _plain("store_id", "area", "store_name", "date", "perimeter", "images", "average_seconds")


def _scopes(row: Row) -> str:
    return ",".join(row["scopes"])


KEY_TABLE = [
    Column("id", "id", 6),
    Column("prefix", "prefix", 11),
    Column("owner", "owner", 6),
    Column("scopes", _scopes, 11),
    Column("last used", "last_used_at", 27),
    Column("expires", "expires_at", 27),
    Column("revoked", "revoked_at", 27),
    Column("label", "label"),
]
KEY_CELLS = [
    *_plain("id", "prefix", "owner"),
    Column("scopes", _scopes),
    *_plain("label", "created_at", "last_used_at", "expires_at", "revoked_at"),
]


def _is_well(row: Row) -> str:
    if not row.get("enabled"):
        return f"disabled: {row['disabled_reason']}" if row.get("disabled_reason") else "disabled"
    return f"failing since {row['failing_since']}: {row['last_error']}" if row.get("failing_since") else "well"


def _last_try(row: Row) -> str | None:
    tries = row.get("tries") or []
    return (tries[-1].get("error") or f"HTTP {tries[-1].get('status')}") if tries else None


WEBHOOK_TABLE = [
    Column("webhook", "webhook_id", 8),
    Column("url", "url"),
    Column("events", lambda row: ", ".join(row.get("events", [])), 25),
    Column("description", "description", 20),
    Column("state", _is_well),
]
WEBHOOK_CELLS = [
    *_plain("webhook_id", "url"),
    Column("events", lambda row: " ".join(row.get("events", []))),
    *_plain("enabled", "disabled_reason", "description", "job_id", "failing_since", "last_error", "created_at"),
]

DELIVERY_TABLE = [
    Column("delivery", "delivery_id", 9),
    Column("event", "event", 13),
    Column("job", "job_id", 8),
    Column("visit", "visit", 6),
    Column("state", "state", 9),
    Column("attempts", "attempts", 8),
    Column("last try", _last_try, 16),
    Column("next attempt", "next_attempt_at", 27),
    Column("created", "created_at", 27),
]
DELIVERY_CELLS = [
    *_plain("delivery_id", "message_id", "event", "job_id", "visit", "version", "state", "attempts"),
    Column("last_try", _last_try),
    *_plain("next_attempt_at", "created_at", "finished_at"),
]
