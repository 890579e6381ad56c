"""A web server that serves some doors only: WEB_DOORS."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask import Flask

from app.errors import SettingError
from app.models import JobSource
from app.web import doors

BY_DOOR = {
    JobSource.URLS: ["/api/submit", "/api/submit/", "/dashboard/submit"],
    JobSource.BATCHES: ["/upload_image_batch", "/image_batches", "/uploads/x"],
    JobSource.MANIFESTS: ["/api/v1/images_info/", "/api/v1/images_info_async", "/api/v1/batch_predict/", "/ping"],
    JobSource.IMAGES: ["/images", "/images/view/x"],
    JobSource.UPLOADS: ["/upload", "/process_redis", "/results/x"],
}
SHARED = [
    "/health",
    "/live",
    "/api/jobs",
    "/dashboard",
    "/dashboard/jobs",
    "/docs",
    "/",
    "/api/webhooks",
]

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def is_there(app: Flask, path: str) -> bool:
    """Whether any method is; what the answer says apart from that is another matter."""
    answers = [app.test_client().open(path, method=method) for method in ("GET", "POST")]
    return any(answer.status_code != 404 or answer.json != {"error": "no such address"} for answer in answers)


@pytest.mark.parametrize("door", JobSource)
def test_a_door_that_is_not_served_is_not_there_and_the_others_are(make_app: Callable[..., Flask], door: str) -> None:
    others = [each for each in JobSource if each != door]
    only, without = make_app(WEB_DOORS=door), make_app(WEB_DOORS=",".join(others))
    for app, served in ((only, {door}), (without, set(others))):
        for each, paths in BY_DOOR.items():
            assert [is_there(app, path) for path in paths] == [each in served] * len(paths), (each, served)
        for path in SHARED:
            assert app.test_client().get(path).status_code == 200, path


@pytest.mark.parametrize("door", JobSource)
def test_it_describes_what_it_serves_and_nothing_else(make_app: Callable[..., Flask], door: str) -> None:
    app = make_app(WEB_DOORS=door)
    client = app.test_client()
    described = set(client.get("/openapi.json").json["paths"])
    everything = set(make_app().test_client().get("/openapi.json").json["paths"])
    routes = app.url_map.bind("localhost")
    assert (
        described == {path for path in everything if routes.allowed_methods(re.sub(r"{\w+}", "1", path))} < everything
    )
    assert ("/api/submit/" in described) == (door == JobSource.URLS)
    page = client.get("/dashboard/jobs", headers={"Accept": "text/html"}).text
    assert ('href="/dashboard/submit"' in page) == ("curl http" in page) == (door == JobSource.URLS)
    assert ('href="/upload"' in page) == (door == JobSource.UPLOADS)


def test_every_door_has_routes(make_app: Callable[..., Flask]) -> None:
    endpoints = make_app().view_functions
    for names in doors.ROUTES.values():
        assert all(any(doors.is_closed(endpoint, (name,)) for endpoint in endpoints) for name in names)
    assert set(doors.ROUTES) == set(JobSource)


def test_a_door_that_there_is_not_stops_the_start(make_app: Callable[..., Flask]) -> None:
    with pytest.raises(SettingError, match="WEB_DOORS: there is no door side; known are urls, batches"):
        make_app(WEB_DOORS="urls, side")
