"""Puts the service together: ``create_app``."""

from __future__ import annotations

from flask import Flask

from app import extensions, runtime
from app.web import (
    auth,
    batches,
    bodies,
    detections,
    docs,
    doors,
    envelope,
    files,
    gates,
    images,
    jobs,
    keys,
    limits,
    manifests,
    metrics,
    ops,
    pages,
    parquet,
    rendering,
    reports,
    results,
    sessions,
    uploads,
    visits,
    webhooks,
)
from app.web import errors as web_errors
from app.web.documents.base import Api
from app.web.proxies import TrustedProxies
from config import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application, with the database and Celery bound to ``settings`` (the environment's by default).

    Raises SettingError. Nothing connects before the first use.
    """
    settings = settings or Settings.from_env()
    app = Api(__name__, closed=doors.closed(settings))
    runtime.bind(app, settings)
    extensions.init_migrations(app)
    app.config["MAX_CONTENT_LENGTH"] = settings.BODY_MAX_BYTES
    app.request_class = bodies.WholeRequest
    # Both slash forms are answered, and none by a redirect, which a client's POST would not survive.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    envelope.register(app)
    metrics.register(app)
    gates.register(app, settings)
    sessions.register(app, settings)
    auth.register_identity(app)
    limits.register(app)
    auth.register_admission(app)
    web_errors.register(app)
    for api in (
        jobs.blueprint,
        batches.blueprint,
        files.blueprint,
        images.blueprint,
        manifests.blueprint,
        results.blueprint,
        parquet.blueprint,
        detections.blueprint,
        reports.blueprint,
        visits.blueprint,
        webhooks.blueprint,
        keys.blueprint,
        uploads.blueprint,
        ops.blueprint,
        metrics.blueprint,
    ):
        app.register_api(api)
    rendering.register(app)
    for blueprint in (docs.blueprint, pages.blueprint):
        app.register_blueprint(blueprint)
    if settings.trusted_proxies:
        app.wsgi_app = TrustedProxies(app.wsgi_app, settings.trusted_proxies)  # type: ignore[method-assign]
    return app
