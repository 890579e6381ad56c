"""Stored files as answers: by ourselves in pieces, by nginx, or by a link into the bucket.

A file never changes once it has its name, so caches may keep it and its checksum says all; the service is asked again
only by whoever has dropped it.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC
from pathlib import PurePosixPath

from flask import Response, redirect, request
from flask_openapi import APIBlueprint, Tag
from werkzeug.http import dump_options_header

from app.domain import files
from app.domain.files import StoredFile
from app.errors import NotFoundError
from app.extensions import settings, storage
from app.storage import is_key
from app.web.documents import files as documents
from app.web.requests import validated
from app.web.schemas.files import ImagePath

blueprint = APIBlueprint("files", __name__, abp_tags=[Tag(name="files", description="Stored images")])

YEAR_SECONDS = 31_536_000
NAME = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})(\.[a-z0-9]{1,8})", re.ASCII)
ODD = re.compile(r"[^\w.() -]+")


@blueprint.get("/api/jobs/<int:job_id>/images/<int:seq>/file", **documents.get)
@validated
def get(path: ImagePath) -> Response:
    """The image itself, where it is stored: uploaded ones are, fetched ones if their job asked for it."""
    return send(files.get_of_image(path.job_id, path.seq))


def file_name(key: str) -> str:
    """How a file is called outside: its uuid, and the ending."""
    name = PurePosixPath(key).name
    return f"{uuid.UUID(name[:32])}{name[32:]}"


def wanted_key(prefix: str, name: str) -> str:
    """The key of the file that is called so outside. Raises NotFoundError where none can be."""
    found = NAME.fullmatch(name)
    if found is None:
        raise NotFoundError("no such file")
    digits = "".join(found.groups()[:5])
    key = f"{prefix}/{digits[:2]}/{digits}{found[6]}"
    if not is_key(key):
        raise NotFoundError("no such file")
    return key


def send(file: StoredFile, *, as_attachment: bool = False) -> Response:
    """The file, a part of it, or where it is; nothing where the client has it. Raises StorageError."""
    response = Response(status=200, content_type=file.content_type)
    response.set_etag(file.sha256)
    response.last_modified = file.stored_at.replace(tzinfo=UTC)
    # Private: between the service and whoever may see it stands no shared cache that asks for keys.
    response.cache_control.private = True
    response.cache_control.max_age = YEAR_SECONDS
    response.cache_control.immutable = True
    response.headers["Content-Disposition"] = _disposition(file, as_attachment=as_attachment)
    response.content_length = file.bytes
    environ = dict(request.environ)
    if "," in environ.get("HTTP_RANGE", ""):
        del environ["HTTP_RANGE"]  # several parts at once are not worth their format: the whole file is as good
    response.make_conditional(environ, accept_ranges=True, complete_length=file.bytes)
    if response.status_code == 304:
        return response
    return _elsewhere(file, response) or _by_ourselves(file, response)


def _by_ourselves(file: StoredFile, response: Response) -> Response:
    part = response.content_range
    start, end = (part.start or 0, part.stop) if response.status_code == 206 else (0, None)
    # A HEAD has no body; Flask drops what a view made for one, and nobody would close the file.
    response.response = [] if request.method == "HEAD" else storage.stream(file.key, start, end)
    return response


def _elsewhere(file: StoredFile, response: Response) -> Response | None:
    if settings.FILES_NGINX_LOCATION and storage.local_path(file.key):
        # nginx makes the body, its length and its parts; what it must not guess, the type, it takes from us.
        sent = Response(status=200, content_type=file.content_type)
        sent.headers["X-Accel-Redirect"] = settings.FILES_NGINX_LOCATION + file.key
        for name in ("Cache-Control", "Content-Disposition"):
            sent.headers[name] = response.headers[name]
        return sent
    if settings.FILES_LINK_SECONDS and (link := storage.presigned(file.key, seconds=settings.FILES_LINK_SECONDS)):
        led = redirect(link, 302)
        # Kept for less long than the link holds.
        led.headers["Cache-Control"] = f"private, max-age={int(settings.FILES_LINK_SECONDS / 2)}"
        return led  # type: ignore[return-value]
    return None


def _disposition(file: StoredFile, *, as_attachment: bool) -> str:
    # What is no image for certain is never shown within a page of ours.
    kind = "attachment" if as_attachment or not file.content_type.startswith("image/") else "inline"
    name = ODD.sub("_", file.name or file_name(file.key))[-100:]
    return dump_options_header(kind, {"filename": name.encode("ascii", "replace").decode().replace("?", "_")})
