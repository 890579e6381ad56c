"""The service as the client's commands see it: requests that are repeated while it is briefly away, and its errors."""

from __future__ import annotations

import functools
import json
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, NamedTuple, TypeVar

import click
import requests
from requests.auth import AuthBase

from app.cli import output

CONNECT_SECONDS = 5
ANSWER_SECONDS = 60
LONGEST_PAUSE_SECONDS = 8
PIECE_BYTES = 64 * 1024
AWAY = {429, 502, 503, 504}

Answer = TypeVar("Answer")


class CannotError(click.ClickException):
    """What was asked for cannot be done: the service refuses it or stays away."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(output.escaped(message))


class RefusedError(CannotError):
    """The service answered with an error; ``reason`` is its text, empty where it gave none."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason or f"the service answered with HTTP {status}")
        self.status = status
        self.reason = reason


class Created(NamedTuple):
    job_id: int
    callback_secret: str | None  # of a callback_url that came without one


class _AwayError(Exception):
    """This attempt failed, a later one may not; ``wait_seconds`` is what the service asked for."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class _Bearer(AuthBase):
    """Sends the key. A plain header would lose against an entry in ~/.netrc."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.key}"
        return request


class Service:
    """One imagejobs service. Every call raises RefusedError or, once ``patience_seconds`` are over, CannotError."""

    def __init__(self, url: str, *, key: str | None = None, patience_seconds: float = 30) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        self.patience_seconds = patience_seconds
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/json"
        self._session.auth = _Bearer(key) if key else None

    def submit(self, body: bytes, *, idempotency_key: str) -> Created:
        """Create a job."""
        return _created(self._change("job_id", "/api/submit/", body, idempotency_key))

    def upload(self, body: Iterable[bytes], *, idempotency_key: str, asked: Mapping[str, str]) -> Created:
        """Create a job of the photos in ``body``, which knows its length and can be gone through again."""
        return _created(self._change("job_id", "/upload_image_batch", body, idempotency_key, params=asked))

    def post_form(self, path: str, body: bytes, kind: str, *, idempotency_key: str) -> Created:
        """Create a job of a form; ``kind`` is the body's Content-Type."""
        return _created(self._change("job_id", path, body, idempotency_key, kind=kind))

    def cancel(self, job_id: int) -> dict[str, Any]:
        """Stop a job and return its status."""
        return self._change("status", f"/api/jobs/{job_id}/cancel", b"", uuid.uuid4().hex)

    def retry(self, job_id: int, wanted: dict[str, Any]) -> dict[str, Any]:
        """Open images of a job again; the answer says how many."""
        return self._change("reopened", f"/api/jobs/{job_id}/retry", json.dumps(wanted).encode(), uuid.uuid4().hex)

    def status(self, job_id: int) -> dict[str, Any]:
        try:
            return self._ask("status", "GET", "/api/status", params={"jobid": job_id})
        except RefusedError as error:
            # The contract's answer for a job that is not there is 400 without a word.
            if error.status == 400 and not error.reason:
                raise CannotError(f"{self.url} has no job {job_id}") from error
            raise

    def rows(self, path: str, **parameters: str | int | None) -> Iterator[dict[str, Any]]:
        """The rows of a list that comes in pages, each page fetched when it is needed."""
        cursor = None
        while True:
            page = self._ask("results", "GET", path, params={**parameters, "cursor": cursor})
            yield from page["results"]
            previous, cursor = cursor, page.get("next")
            if cursor is None:
                return
            if cursor == previous:
                raise CannotError(f"{self.url} gives the same page again and again")

    def errors(self, job_id: int) -> list[dict[str, Any]]:
        """Why images of a job failed, by error code."""
        found: list[dict[str, Any]] = self._ask("results", "GET", f"/api/jobs/{job_id}/errors")["results"]
        return found

    def get(self, field: str, path: str) -> dict[str, Any]:
        """One thing, whose answer has ``field``."""
        return self._ask(field, "GET", path)

    def create(self, field: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Make or begin something; however often it has to be asked for, it happens once."""
        return self._change(field, path, json.dumps(body).encode(), uuid.uuid4().hex)

    def remove(self, field: str, path: str) -> dict[str, Any]:
        """Delete a thing; the answer is what it was."""
        return self._ask(field, "DELETE", path)

    def save(self, path: str, file: BinaryIO, *, is_rewindable: bool, **parameters: str | int | None) -> None:
        """Write an answer to ``file`` as it comes; one that breaks off is asked for again where that may be rewound."""
        self._patiently(lambda: self._save(path, file, parameters, is_rewindable=is_rewindable))

    def _save(self, path: str, file: BinaryIO, parameters: dict[str, Any], *, is_rewindable: bool) -> None:
        with self._once("GET", path, params=parameters, stream=True) as answer:
            if not answer.ok or "Content-Disposition" not in answer.headers:
                self._body(answer, "a file")
            if is_rewindable:
                file.seek(0)
                file.truncate()
            try:
                for piece in answer.iter_content(PIECE_BYTES):
                    file.write(piece)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                if is_rewindable:
                    raise _AwayError("broke the answer off") from error
                raise CannotError(f"{self.url} broke the answer off: what was written is not whole") from error

    def _change(
        self,
        field: str,
        path: str,
        body: bytes | Iterable[bytes],
        idempotency_key: str,
        *,
        kind: str = "application/json",
        **options: Any,
    ) -> dict[str, Any]:
        """The key lets the attempts after a lost answer do nothing more, and get the first one's answer."""
        headers = {"Content-Type": kind, "Idempotency-Key": idempotency_key}
        return self._ask(field, "POST", path, data=body, headers=headers, **options)

    def _ask(self, field: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The answer, which has ``field``."""
        return self._patiently(lambda: self._body(self._once(method, path, **options), field))

    def _patiently(self, attempt: Callable[[], Answer]) -> Answer:
        """What ``attempt`` returns; it is made again while the service is away and patience lasts."""
        deadline = time.monotonic() + self.patience_seconds
        attempts = 0
        while True:
            try:
                return attempt()
            except _AwayError as away:
                attempts += 1
                wait = _pause(attempts) if away.wait_seconds is None else away.wait_seconds
                if time.monotonic() + wait > deadline:
                    raise CannotError(f"{self.url} {away}") from away
                if attempts == 1:
                    click.echo(output.escaped(f"{self.url} {away}; trying again"), err=True)
            time.sleep(wait)

    def _once(self, method: str, path: str, **options: Any) -> requests.Response:
        timeout = (CONNECT_SECONDS, ANSWER_SECONDS)
        try:
            # A redirected POST would arrive as a GET; the service itself never redirects.
            answer = self._session.request(method, self.url + path, timeout=timeout, allow_redirects=False, **options)
        except requests.exceptions.SSLError as error:
            raise CannotError(f"{self.url} has a certificate that is not trusted: {_reason(error)}") from error
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _AwayError(f"cannot be reached: {_reason(error)}") from error
        except (requests.RequestException, UnicodeError) as error:
            raise CannotError(f"{self.url} cannot be asked: {error}") from error
        if answer.status_code in AWAY:
            raise _AwayError(f"is busy or away (HTTP {answer.status_code}){_why(answer)}", _retry_after(answer))
        return answer

    def _body(self, answer: requests.Response, field: str) -> dict[str, Any]:
        if answer.is_redirect:
            raise CannotError(f"{self.url} has moved to {answer.headers['Location']}: give that address with --url")
        try:
            body = answer.json()
        except requests.JSONDecodeError:
            body = None
        if isinstance(body, dict) and not answer.ok:
            raise RefusedError(answer.status_code, str(body.get("error", "")))
        if not isinstance(body, dict) or field not in body:
            raise CannotError(f"{self.url} does not answer like imagejobs: HTTP {answer.status_code} without {field!r}")
        return body


def _created(answer: dict[str, Any]) -> Created:
    return Created(int(answer["job_id"]), answer.get("callback_secret"))


def _pause(attempt: int) -> float:
    return random.uniform(0.5, 1) * min(LONGEST_PAUSE_SECONDS, 0.5 * 2**attempt)


def _why(answer: requests.Response) -> str:
    """What the service says of it, where it is the service that answers: that its queue is full, for example."""
    try:
        body = answer.json()
    except requests.RequestException:
        return ""
    sentence = body.get("error") if isinstance(body, dict) else None
    return f": {sentence}" if sentence else ""


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds to wait as the service asks, by number or by date; ``None`` where it does not."""
    value = answer.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _reason(error: BaseException) -> str:
    """The system's words at the bottom of a pile of wrapped errors."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return "no answer in time" if isinstance(error, requests.Timeout) else type(error).__name__


def with_service(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name the service, and the Service as its first argument."""

    @click.option("--url", envvar="IMAGEJOBS_URL", default="http://localhost:5000", help="Address of the service.",
                  show_default=True, show_envvar=True)  # fmt: skip
    @click.option("--key", envvar="IMAGEJOBS_KEY", help="API key, where the service asks for one.", show_envvar=True)
    @click.option("--patience", type=click.FloatRange(0), default=30.0, metavar="SECONDS", show_default=True,
                  help="How long to keep trying while the service is away.")  # fmt: skip
    @functools.wraps(command)
    def with_options(*, url: str, key: str | None, patience: float, **options: Any) -> None:
        command(Service(url, key=key, patience_seconds=patience), **options)

    return with_options
