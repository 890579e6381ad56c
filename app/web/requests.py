"""From a request to pydantic models, and from a model to an answer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import wraps
from typing import Any, TypeVar, cast, get_type_hints

from flask import Flask, Response, current_app, request
from pydantic import BaseModel, ValidationError

from app.domain.idempotency import Idempotency
from app.errors import InvalidRequestError
from app.web.bodies import WholeRequest

MOST_PROBLEMS = 3
MOST_CHARACTERS = 300
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)
# In place of pydantic's own words, where those speak of Python.
SENTENCES = {
    "missing": "is missing",
    "model_type": "not a JSON object",
    "dict_type": "not a JSON object",
    "list_type": "not a list",
    "string_type": "not a string",
    "int_type": "not a whole number",
    "int_parsing": "not a whole number",
    "int_from_float": "not a whole number",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
    "too_short": "is empty",
    "string_too_short": "is empty",
}
Model = TypeVar("Model", bound=BaseModel)


def validated(view: Callable[..., Response]) -> Callable[..., Response]:
    """Give ``view`` what it annotates: ``path``, ``query`` and ``body`` as models, ``body`` from the raw bytes.

    Marked so that flask-openapi documents these models and leaves the reading to us: it answers 422 to JSON sent
    without its Content-Type. Raises InvalidRequestError.
    """
    hints = get_type_hints(view)

    @wraps(view)
    def read_and_call(**path_values: Any) -> Response:
        arguments: dict[str, BaseModel] = {}
        if "path" in hints:
            arguments["path"] = _read(hints["path"].model_validate, path_values)
        if "query" in hints:
            arguments["query"] = _read(hints["query"].model_validate, _query_values(request.args))
        if "body" in hints:
            arguments["body"] = _read(hints["body"].model_validate_json, _body_for(hints["body"]))
        return view(**arguments)

    read_and_call.__delay_validate_request__ = True  # type: ignore[attr-defined]
    return read_and_call


def answer(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The model as JSON; fields that were not set are left out, those set to None are null."""
    body = model.model_dump_json(exclude_unset=True)
    return Response(body, status, headers, mimetype="application/json")


class Streamed(Iterator[Any]):
    """The pieces of an answer, each made in a context of its own, as the service itself.

    Who may see what was decided before. Flask's ``stream_with_context`` would keep the request's context open until the
    last piece, on whichever thread that is.
    """

    def __init__(self, pieces: Generator[Any, None, None]) -> None:
        self._pieces = pieces
        self._app = cast(Flask, current_app._get_current_object())  # type: ignore[attr-defined]

    def __next__(self) -> Any:
        with self._app.app_context():
            return next(self._pieces)

    def close(self) -> None:
        """Called by the server at the end, or where the client has gone."""
        with self._app.app_context():
            self._pieces.close()


def idempotency() -> Idempotency | None:
    """The request's Idempotency-Key, for every route that changes something. Raises InvalidRequestError."""
    key = _idempotency_key()
    if key is None:
        return None
    digest = _digest_of_address()
    digest.update(request.get_data())
    return Idempotency(key, digest.hexdigest())


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not IDEMPOTENCY_KEY.fullmatch(key.strip()):
        raise InvalidRequestError("Idempotency-Key: must be 1 to 255 printable ASCII characters")
    return key.strip()


def idempotency_of(*parts: bytes) -> Idempotency | None:
    """The same for a form, by what it holds: it may be written in several ways. Raises InvalidRequestError."""
    key = _idempotency_key()
    if key is None:
        return None
    digest = _digest_of_address()
    for part in parts:
        digest.update(b"%d:" % len(part) + part)
    return Idempotency(key, digest.hexdigest())


class StreamedBody:
    """A body that is read once, piece by piece, and of which the Idempotency-Key may be asked once it is read."""

    def __init__(self, most_bytes: int) -> None:
        self._key = _idempotency_key()
        self._digest = _digest_of_address()
        self._pieces = cast(WholeRequest, request).pieces(most_bytes)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._digest.update(piece)
            yield piece

    def idempotency(self) -> Idempotency | None:
        return Idempotency(self._key, self._digest.hexdigest()) if self._key else None


def _digest_of_address() -> Any:
    """Both slash forms are one address."""
    return hashlib.sha256(f"{request.method} {request.path.rstrip('/')}?".encode() + request.query_string + b"\n")


def _body_for(model: type[BaseModel]) -> bytes:
    """The body as sent; none at all is an empty object for a model that demands nothing."""
    body = request.get_data().removeprefix(BYTE_ORDER_MARK)
    if not body.strip() and not any(field.is_required() for field in model.model_fields.values()):
        return b"{}"
    return body


def _query_values(args: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in args.items() if value.strip()}


def read_part(model: type[Model], text: bytes, *place: int | str) -> Model:
    """A part of a body, which stands at ``place`` in it. Raises InvalidRequestError."""
    return _read(model.model_validate_json, text, place)


def with_fields(query: Model, fields: Mapping[str, Any]) -> Model:
    """``query`` with what a body says of its fields beside something else, which counts more.

    Raises InvalidRequestError.
    """
    known = type(query).model_fields
    given = {name: value for name, value in fields.items() if name in known and value not in (None, "")}
    return _read(type(query).model_validate, query.model_dump(exclude_unset=True) | given)


def _read(validate: Callable[[Any], Model], value: Any, place: tuple[int | str, ...] = ()) -> Model:
    try:
        return validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        sentences = [_sentence(problem, place) for problem in problems[:MOST_PROBLEMS]]
        raise InvalidRequestError("; ".join(sentences)) from error


def _sentence(problem: Any, place: tuple[int | str, ...]) -> str:
    reason = SENTENCES.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "json_invalid":
        reason = f"not JSON: {reason.removeprefix('Invalid JSON: ')}"
    return f"{_place((*place, *problem['loc'])) or 'body'}: {reason}"[:MOST_CHARACTERS]


def _place(steps: tuple[int | str, ...]) -> str:
    """``visits[3].image_url[0]``"""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
