"""The one place that turns errors into status codes; the body of each is ``{"error": "..."}``.

Only a browser that asked for one of the pages gets a page that says it.
"""

from __future__ import annotations

import structlog
from flask import Flask, Response, current_app, jsonify, request, url_for
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from app.errors import (
    AuthenticationError,
    ConflictError,
    ForbiddenError,
    ImagejobsError,
    InvalidRequestError,
    ManifestError,
    NotFoundError,
    QueueFullError,
    ReportFailedError,
    StorageError,
    StoredFileMissingError,
    TooLargeError,
    TooManyImagesError,
    TooManyRequestsError,
    UnavailableError,
    UnprocessableError,
)
from app.web import rendering

log = structlog.get_logger()

# Addresses of pages for people.
PAGES = ("/dashboard", "/upload", "/results")
HEADINGS = {
    400: "That cannot be shown",
    401: "You are not logged in",
    403: "Not allowed",
    404: "There is no such page",
    409: "Not as it stands now",
    413: "That is too much at once",
    429: "That is too often",
    500: "Something went wrong here",
    503: "The service cannot answer just now",
}
RETRY_AFTER_SECONDS = 5
STATUS: dict[type[ImagejobsError], int] = {
    InvalidRequestError: 400,
    TooManyImagesError: 413,
    TooLargeError: 413,
    AuthenticationError: 401,
    ManifestError: 422,
    UnprocessableError: 422,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    TooManyRequestsError: 429,
    QueueFullError: 503,
    UnavailableError: 503,
    ReportFailedError: 500,
    StorageError: 503,
    StoredFileMissingError: 404,
}
# Plainer than the standard phrases, which speak to people in front of a browser.
SENTENCES = {
    404: "no such address",
    405: "this address does not take that method",
    413: "the body is larger than this service takes",
    415: "this media type is not taken here",
}


def register(app: Flask) -> None:
    for kind, status in STATUS.items():
        app.register_error_handler(kind, _translator(status))
    for failure in (OperationalError, InterfaceError, PoolTimeoutError):
        app.register_error_handler(failure, _database_failed)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _translator(status: int):  # type: ignore[no-untyped-def]
    def translate(error: ImagejobsError) -> Response:
        if isinstance(error, StorageError):
            log.error("storage failed", exc_info=error)
            return _answer(status, error.message)
        answer = _answer(status, str(error))
        if isinstance(error, (TooManyRequestsError, QueueFullError)):
            answer.headers["Retry-After"] = str(error.retry_after_seconds)
        return answer

    return translate


def _database_failed(error: Exception) -> Response:
    log.error("database failed", exc_info=error)
    return _answer(503, "the database does not answer")


def _http_error(error: HTTPException) -> Response:
    if error.code is None or error.code < 400:
        return error.get_response()  # type: ignore[return-value]  # a redirect
    if isinstance(error, NotFound):
        error = _method_in_other_slash_form() or error
    code = error.code or 500
    answer = _answer(code, SENTENCES.get(code) or error.description or error.name)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):  # Allow, WWW-Authenticate, Retry-After
            answer.headers[name] = value
    return answer


def _method_in_other_slash_form() -> MethodNotAllowed | None:
    """Werkzeug takes an address in its other slash form, but does not look there for the methods that it has."""
    other = request.path[:-1] if request.path.endswith("/") else f"{request.path}/"
    routes = current_app.create_url_adapter(request)
    methods = routes.allowed_methods(other) if routes else []
    return MethodNotAllowed(methods) if methods and request.method not in methods else None


def _unexpected(error: Exception) -> Response:
    log.error("request failed", exc_info=error)
    return _answer(500, "internal error")


def _answer(status: int, sentence: str) -> Response:
    if status == 401 and request.method == "GET" and _is_for_people():
        return rendering.see(url_for("pages.login", next=request.full_path.rstrip("?")))
    answer = _page(status, sentence) if _is_for_people() else jsonify(error=sentence)
    answer.status_code = status
    if status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="imagejobs"'
    if status == 503:
        answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return answer


def _is_for_people() -> bool:
    path = request.path
    return prefers_page() and any(path == page or path.startswith(f"{page}/") for page in PAGES)


def prefers_page() -> bool:
    """Whether a browser asks, and not a program."""
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def _page(status: int, sentence: str) -> Response:
    heading = HEADINGS.get(status, "That did not work")
    return rendering.page(
        "error.html", status=status, heading=heading, sentence=f"{sentence[:1].upper()}{sentence[1:]}."
    )
