"""Logs are events: a constant message and fields. One event is one line, whatever its values hold."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from typing import Any

import structlog
from structlog.types import EventDict

from config import Settings

# user:password@ in an address, as drivers put it into their messages
_CREDENTIALS = re.compile(r"(://[^\s/@:]*:)[^\s/@]+@")
# API keys, of which the beginning is no secret, and what webhooks are signed with
_KEYS = re.compile(r"(ij_[a-z0-9]{8}_|whsec_)[A-Za-z0-9_+/=-]{8,}")
# Flask's development server repeats every request in a format of its own; Celery tells of every bell.
REPETITIVE_LOGGERS = ("werkzeug", "celery.app.trace", "celery.worker.strategy")
# Its lines hold whole addresses, and these the tokens that receivers of webhooks put into them.
INDISCREET_LOGGERS = ("urllib3",)
# Traceback lines are marked, so that none of them can be taken for an event.
TRACEBACK_MARK = "    | "


def configure(options: Settings) -> None:
    """Send structlog's events and those of libraries to stderr in one format; a second call replaces the first."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    is_json = options.LOG_FORMAT == "json"
    # Hidden once more: only here does a traceback become text.
    as_json = [structlog.processors.format_exc_info, _hide_secrets, structlog.processors.JSONRenderer()]
    renderers = as_json if is_json else [_as_text]
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if not isinstance(other, _Handler)] + [handler]
    root.setLevel(options.LOG_LEVEL)
    for repetitive in REPETITIVE_LOGGERS:
        logging.getLogger(repetitive).setLevel(max(logging.WARNING, root.level))
    for indiscreet in INDISCREET_LOGGERS:
        logging.getLogger(indiscreet).setLevel(logging.CRITICAL)


class _Handler(logging.StreamHandler[Any]):
    """Ours among the handlers of the root logger."""


def _hide_secrets(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {name: _without_secrets(value) if isinstance(value, str) else value for name, value in event.items()}


def _without_secrets(text: str) -> str:
    return _KEYS.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))


def _as_text(_logger: object, _method: str, event: EventDict) -> str:
    error = event.pop("exc_info", None)
    event.pop("stack_info", None)
    head = (event.pop("timestamp"), event.pop("level").upper().ljust(7), printable(str(event.pop("event"))))
    fields = (f"{name}={_shown(value)}" for name, value in event.items())
    return "\n".join([" ".join((*head, *fields)), *_traceback(error)])


def _shown(value: object) -> str:
    text = printable(str(value))
    return f'"{text}"' if not text or " " in text or "=" in text else text


def printable(text: str) -> str:
    """The same text with line ends, control characters and the like escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _traceback(error: Any) -> Iterable[str]:
    if not error:
        return []
    text = structlog.processors.format_exc_info(None, "", {"exc_info": error}).get("exception", "")
    return [TRACEBACK_MARK + printable(line) for line in _without_secrets(str(text)).splitlines()]
