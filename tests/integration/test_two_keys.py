"""Two keys over every route: what belongs to the one is answered to the other exactly like what does not exist.

Every rule of the service stands in one of the lists below. Who adds a route adds it here, and so says what of its
answer is somebody's own.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.domain import exports, keys
from app.domain.access import Scope
from app.domain.keys import NewKey
from tests.integration import hands, photos

# Nothing of anybody's: answered without a key too.
PUBLIC = {
    *("/", "/health", "/live", "/metrics", "/openapi.json", "/docs", "/docs/start.js", "/docs/static/<path:filename>"),
    *("/ping/", "/dashboard/login", "/dashboard/logout"),
    *("/dashboard/static/<path:filename>", "/dashboard/bootstrap/<path:filename>"),
}
ADMIN = {
    *("/api/keys", "/api/keys/<int:key_id>", "/api/keys/<int:key_id>/revoke"),
    *("/dashboard/control", "/dashboard/control/findings", "/dashboard/stores/load", "/dashboard/stores/preview"),
    *("/dashboard/keys", "/dashboard/keys/<int:key_id>/revoke"),
}
# Makes something of the caller's own, and shows nothing that was there before.
CREATES = {
    *("/api/submit/", "/upload_image_batch", "/api/v1/images_info/", "/upload", "/process_redis"),
    *("/dashboard/submit", "/api/webhooks", "/dashboard/webhooks", "/dashboard/exports"),
    *("/api/v1/images_info_async/", "/api/v1/batch_predict/"),
}
# Shows or changes what the path or the query names.
OWNED = {
    "/api/status?jobid=<int:job_id>",
    "/api/jobs/<int:job_id>",
    "/api/jobs/<int:job_id>/images",
    "/api/jobs/<int:job_id>/images/<int:seq>/file",
    "/api/jobs/<int:job_id>/errors",
    "/api/jobs/<int:job_id>/results.json",
    "/api/jobs/<int:job_id>/results.jsonl",
    "/api/jobs/<int:job_id>/results.csv",
    "/api/jobs/<int:job_id>/results.parquet",
    "/api/jobs/<int:job_id>/results.coco.json",
    "/api/jobs/<int:job_id>/results.megadetector.json",
    "/api/jobs/<int:job_id>/report",
    "/api/jobs/<int:job_id>/report.<ending>",
    "/api/jobs/<int:job_id>/cancel",
    "/api/jobs/<int:job_id>/retry",
    "/dashboard/jobs/<int:job_id>",
    "/dashboard/jobs/<int:job_id>/cancel",
    "/dashboard/jobs/<int:job_id>/images/<int:seq>",
    "/dashboard/jobs/<int:job_id>/report",
    "/dashboard/jobs/<int:job_id>/request",
    "/dashboard/jobs/<int:job_id>/request.json",
    "/dashboard/jobs/<int:job_id>/retry",
    "/dashboard/jobs/<int:job_id>/stores",
    "/uploads/<name>",
    "/images/view/<filename>",
    "/images/results/<filename>",
    "/results/<id>",
    "/results/<id>.<ending>",
    "/dashboard/exports/<export_id>",
    "/dashboard/exports/<export_id>.xlsx",
}
# Pages that lead to a change, or to something new.
ASKS = {
    *("/dashboard/jobs/<int:job_id>/cancel", "/dashboard/jobs/<int:job_id>/retry"),
    *("/dashboard/submit", "/upload", "/dashboard/webhooks/<int:webhook_id>/remove"),
}
# Makes a file of what may be read anyway.
READS = {"/dashboard/exports"}
OF_A_WEBHOOK = {
    "/api/webhooks/<int:webhook_id>",
    "/api/webhooks/<int:webhook_id>/deliveries",
    "/api/webhooks/<int:webhook_id>/rotate",
    "/api/webhooks/<int:webhook_id>/test",
    "/api/deliveries/<int:delivery_id>",
    "/api/deliveries/<int:delivery_id>/redeliver",
    "/dashboard/webhooks/<int:webhook_id>",
    "/dashboard/webhooks/<int:webhook_id>/enable",
    "/dashboard/webhooks/<int:webhook_id>/disable",
    "/dashboard/webhooks/<int:webhook_id>/test",
    "/dashboard/webhooks/<int:webhook_id>/rotate",
    "/dashboard/webhooks/<int:webhook_id>/remove",
    "/dashboard/deliveries/<int:delivery_id>",
    "/dashboard/deliveries/<int:delivery_id>/redeliver",
}
# GET shows what is the caller's own of all there is.
LISTS = {
    "/api/jobs",
    "/api/visits?startdate=2020-09-01&enddate=2020-09-30&total=1",
    "/image_batches?page=1&per_page=100",
    "/images?page=1&count=20",
    "/dashboard/",
    "/dashboard/now",
    "/dashboard/period",
    "/dashboard/jobs",
    "/dashboard/stores",
    "/dashboard/stores/<path:store_id>",
    "/dashboard/visits?startdate=2020-09-01&enddate=2020-09-30",
    "/dashboard/visits.csv?startdate=2020-09-01&enddate=2020-09-30",
    "/dashboard/visits.xlsx?startdate=2020-09-01&enddate=2020-09-30",
}
# The store master, which is everybody's who has a key.
SHARED = {"/dashboard/stores.csv"}
NOWHERE = 999_999_999
NO_FILE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa.jpg"
NO_IMAGE = f"{'a' * 32}_a.jpg"
NO_UPLOAD = "a" * 32
NOTHING = {
    **{"job_id": NOWHERE, "seq": 0, "name": NO_FILE, "id": NO_UPLOAD, "ending": "zip"},
    **{"filename": NO_IMAGE, "store_id": "S00339218", "export_id": NO_UPLOAD},
    **{"key_id": NOWHERE, "webhook_id": NOWHERE, "delivery_id": NOWHERE},
}
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
# Of this request, and of nothing else.
VOLATILE = ("X-Request-ID", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Date", "Set-Cookie")


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(AUTH="keys")


class Asker:
    """Somebody with a key."""

    def __init__(self, app: Flask, *scopes: Scope) -> None:
        with app.app_context():
            made = keys.create(NewKey(scopes=frozenset(scopes) or keys.DEFAULT_SCOPES))
        self.client: FlaskClient = app.test_client()
        self.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {made.text}"
        self.client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"

    def ask(self, method: str, address: str, values: Mapping[str, object] = NOTHING) -> TestResponse:
        for name, value in values.items():
            address = re.sub(rf"<(\w+:)?{name}>", str(value), address)
        return self.client.open(address, method=method, buffered=True)


def told(answer: TestResponse) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Everything that the answer says, apart from what is of this request only."""
    number = re.compile(rb"\b%d\b|(?<=jobs/)\d+|(?<=jobid=)\d+" % NOWHERE)
    headers = sorted((name, value) for name, value in answer.headers if name not in VOLATILE)
    if answer.data.startswith(b"PK"):
        # A workbook: its parts, without the moment at which it was made.
        book = zipfile.ZipFile(io.BytesIO(answer.data))
        parts = [(name, book.read(name)) for name in book.namelist() if name != "docProps/core.xml"]
        return answer.status_code, repr(parts).encode(), [each for each in headers if each[0] != "Content-Length"]
    return answer.status_code, number.sub(b"N", answer.data), headers


def methods_of(app: Flask, rule: str) -> Iterator[str]:
    for known in app.url_map.iter_rules():
        if known.rule == rule.partition("?")[0]:
            yield from sorted((known.methods or set()) & METHODS)


def a_job(asker: Asker) -> dict[str, object]:
    visits = [hands.visit(images=2), hands.visit("S01408764", images=2)]
    return NOTHING | {"job_id": hands.submit(asker.client, *visits, metadata={"note": "ours"})}


def a_batch(asker: Asker) -> dict[str, object]:
    job_id = asker.client.post("/upload_image_batch", json=[photos.item()]).json["job_id"]
    [batch] = asker.client.get("/image_batches?page=1&per_page=1").json
    return NOTHING | {"job_id": job_id, "name": batch["images"][0]["file_path"].rpartition("/")[2]}


def an_image(asker: Asker) -> dict[str, object]:
    file = {"image": (io.BytesIO(photos.image()), "a.jpg")}
    made = asker.client.post("/images?async=1", data=file, content_type="multipart/form-data").json
    return NOTHING | {"job_id": made["job_id"], "filename": made["image"]}


def an_upload(asker: Asker) -> dict[str, object]:
    """Handed in, and not opened yet: it has no job."""
    file = {"file": (io.BytesIO(photos.image()), "a.jpg")}
    asker.client.post("/upload", data=file, content_type="multipart/form-data")
    return NOTHING | {"id": asker.client.post("/process_redis").json["submission"]}


def an_export(app: Flask, asker: Asker) -> dict[str, object]:
    made = asker.client.post("/dashboard/exports?startdate=2020-09-01&enddate=2020-09-30")
    with app.app_context():
        assert exports.build_next(lambda: False)
    return NOTHING | {"export_id": made.location.rpartition("/")[2]}


def test_every_route_is_in_one_of_the_lists(app: Flask) -> None:
    lists = (PUBLIC, ADMIN, CREATES, OWNED, OF_A_WEBHOOK, LISTS, SHARED)
    listed = [rule.partition("?")[0] for rules in lists for rule in rules]
    assert sorted(listed) == sorted({rule.rule for rule in app.url_map.iter_rules()}), "see the top of this file"


def test_without_a_key_only_what_is_public_is_answered(app: Flask) -> None:
    client = app.test_client()
    for rule in app.url_map.iter_rules():
        if rule.rule in PUBLIC - {"/metrics"}:  # it has a token of its own
            continue
        path = re.sub(r"<.+?>", "1", rule.rule)
        for method in methods_of(app, rule.rule):
            assert client.open(path, method=method).status_code == 401, (method, path)


def test_the_routes_of_admin_are_for_admin(app: Flask) -> None:
    plain, admin = Asker(app), Asker(app, Scope.ADMIN)
    for rule in sorted(ADMIN):
        for method in methods_of(app, rule):
            assert plain.ask(method, rule, NOTHING | {"key_id": 1}).status_code == 403
            assert plain.ask(method, rule).status_code == 403
            assert admin.ask(method, rule).status_code in (200, 201, 400, 404)


@pytest.mark.parametrize("scope", [Scope.SUBMIT, Scope.READ])
def test_one_scope_does_not_open_what_needs_the_other(app: Flask, scope: Scope) -> None:
    asker = Asker(app, scope)
    for rule in sorted(CREATES | OWNED | OF_A_WEBHOOK | LISTS | SHARED):
        for method in methods_of(app, rule):
            is_reading = rule in READS or (method == "GET" and rule not in ASKS)
            assert (asker.ask(method, rule).status_code == 403) == (is_reading != (scope is Scope.READ)), (method, rule)


def test_what_is_somebodys_is_answered_to_others_like_what_does_not_exist(app: Flask) -> None:
    hands.add_stores(app)
    ours, theirs = Asker(app), Asker(app)
    settled = a_job(ours)
    hands.work_off(app, lambda work: hands.failed(work) if work.seq == 0 else hands.done(work))
    things = [settled, a_job(ours), a_batch(ours), an_image(ours), an_upload(ours), an_export(app, ours)]
    rules = [(method, rule) for rule in sorted(OWNED) for method in methods_of(app, rule)]
    for thing in things:
        before = ours.ask("GET", "/api/jobs/<int:job_id>", thing).data
        for each in rules:
            seen = told(theirs.ask(*each, thing))
            assert seen == told(theirs.ask(*each)), each
            assert seen[0] in (400, 404), each
        assert ours.ask("GET", "/api/jobs/<int:job_id>", thing).data == before
    # They were there: their owner and admin are answered otherwise.
    for asker in (ours, Asker(app, Scope.ADMIN)):
        for each in rules:
            assert {asker.ask(*each, thing).status_code for thing in things} - {400, 404}, each


def test_what_is_of_a_webhook_is_answered_to_others_like_what_does_not_exist(app: Flask) -> None:
    ours, theirs = Asker(app), Asker(app)
    made = ours.client.post("/api/webhooks", json={"url": "https://hooks.example/"}).json
    hands.submit(ours.client, hands.visit("NOWHERE"), callback_url="https://hooks.example/")
    deliveries = f"/api/webhooks/{made['webhook_id']}/deliveries"
    [delivery] = ours.client.get(deliveries).json["results"]
    there = {"webhook_id": made["webhook_id"], "delivery_id": delivery["delivery_id"]}
    asked = [(method, rule) for rule in sorted(OF_A_WEBHOOK) for method in methods_of(app, rule)]
    for each in asked:
        seen = told(theirs.ask(*each, there))
        assert seen == told(theirs.ask(*each)), each
        assert seen[0] == 404, each
    assert theirs.client.get("/api/webhooks").json["results"] == []
    assert theirs.client.get(f"/api/webhooks?job_id={delivery['job_id']}").json["results"] == []
    assert ours.client.get(deliveries).json["results"] == [delivery]
    for method, rule in sorted(asked):  # removing it first would leave nothing to ask for
        if method != "DELETE" and (method, rule) != ("POST", "/dashboard/webhooks/<int:webhook_id>/remove"):
            assert ours.ask(method, rule, there).status_code in (200, 202, 303), (method, rule)


def test_lists_show_others_as_much_as_if_there_were_nothing(app: Flask) -> None:
    hands.add_stores(app)
    ours, theirs, admin = Asker(app), Asker(app), Asker(app, Scope.ADMIN)
    rules = [("GET", rule) for rule in sorted(LISTS)]
    nothing = {each: told(theirs.ask(*each)) for each in rules}
    a_job(ours)
    a_batch(ours)
    hands.work_off(app)
    a_job(ours)
    an_image(ours)
    an_upload(ours)
    for each in rules:
        assert told(theirs.ask(*each)) == nothing[each], each
        assert told(ours.ask(*each)) != nothing[each], each
        assert told(admin.ask(*each)) != nothing[each], each
