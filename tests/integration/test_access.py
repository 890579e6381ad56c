"""What belongs to somebody else is not seen, not changed, and answered like what does not exist."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from app.domain import access, jobs
from app.domain import visits as domain_visits
from app.domain.access import Caller, Scope
from app.domain.visits import VisitFilter
from app.errors import NotFoundError
from app.extensions import db
from app.web import auth
from tests.conftest import Backend
from tests.integration import hands, photos

OURS = Caller(7, frozenset({Scope.SUBMIT, Scope.READ}))
THEIRS = Caller(8, frozenset({Scope.SUBMIT, Scope.READ}))
ADMIN = Caller(9, frozenset({Scope.ADMIN}))
BOTH_DATES = {"startdate": "2020-01-01", "enddate": "2021-01-01"}


@pytest.fixture
def as_caller(monkeypatch: pytest.MonkeyPatch) -> Any:
    @contextmanager
    def ask(caller: Caller) -> Iterator[None]:
        with monkeypatch.context() as patched:
            patched.setattr(auth.access, "SERVICE", caller)
            yield

    return ask


@pytest.fixture
def job(app: Flask, client: FlaskClient, as_caller: Any) -> int:
    hands.add_stores(app)
    with as_caller(OURS):
        job = hands.submit(client, hands.visit(images=2))
    hands.work_off(app)
    return job


def visits(client: FlaskClient, **more: object) -> list[str]:
    found = client.get("/api/visits", query_string=BOTH_DATES | more).json
    assert found.get("total") in (None, len(found["results"]))
    return [store["store_id"] for store in found["results"]]


def test_visits_are_those_of_the_callers_jobs(app: Flask, client: FlaskClient, job: int, as_caller: Any) -> None:
    with as_caller(THEIRS):
        hands.submit(client, hands.visit("S01408764"))
    hands.work_off(app)
    with as_caller(OURS):
        assert visits(client, total=1) == ["S00339218"]
    with as_caller(THEIRS):
        assert visits(client, total=1) == ["S01408764"]
        assert visits(client, storeid="S00339218") == []
    with as_caller(ADMIN):
        assert visits(client, total=1) == ["S00339218", "S01408764"]
    with as_caller(Caller(None, OURS.scopes)):
        assert visits(client, total=1) == []


def test_jobs_are_listed_to_their_owner_and_to_admin(client: FlaskClient, job: int, as_caller: Any) -> None:
    for caller, seen in ((OURS, [job]), (THEIRS, []), (ADMIN, [job])):
        with as_caller(caller):
            assert [found["job_id"] for found in client.get("/api/jobs").json["results"]] == seen
            assert [found["job_id"] for found in client.get("/api/jobs?storeid=S00339218").json["results"]] == seen


def test_batches_and_their_files_are_their_owners(client: FlaskClient, as_caller: Any) -> None:
    with as_caller(OURS):
        job = client.post("/upload_image_batch", json=[photos.item()]).json["job_id"]
        [batch] = client.get("/image_batches?page=1&per_page=9&camera_id=cam-1").json
        path = f"/{batch['images'][0]['file_path']}"
    nothing = "/uploads/00000000-0000-4000-8000-000000000000.jpg"
    for caller, is_seen in ((OURS, True), (THEIRS, False), (ADMIN, True), (Caller(None, OURS.scopes), False)):
        with as_caller(caller):
            assert len(client.get("/image_batches?page=1&per_page=9").json) == is_seen
            assert len(client.get("/image_batches?page=1&per_page=9&camera_id=cam-1").json) == is_seen
            for address in (path, f"/api/jobs/{job}/images/0/file"):
                answer, other = client.get(address), client.get(nothing)
                assert answer.status_code == (200 if is_seen else 404)
                assert is_seen or answer.data == other.data


def test_single_images_are_their_owners(client: FlaskClient, as_caller: Any) -> None:
    with as_caller(OURS):
        form = {"image": (io.BytesIO(photos.image()), "a.jpg")}
        made = client.post("/images?processors=perimeter", data=form).json
    for caller, is_seen in ((OURS, True), (THEIRS, False), (ADMIN, True), (Caller(None, OURS.scopes), False)):
        with as_caller(caller):
            assert len(client.get("/images").json) == is_seen
            for way in ("view", "results"):
                answer = client.get(f"/images/{way}/{made['image']}")
                nothing = client.get(f"/images/{way}/{'0' * 32}_a.jpg")
                assert answer.status_code == (200 if is_seen else 404)
                assert is_seen or answer.data == nothing.data


def test_two_owners_may_use_the_same_idempotency_key(client: FlaskClient, job: int, as_caller: Any) -> None:
    def submit(images: int) -> int:
        body = hands.body(hands.visit(images=images))
        answer = client.post("/api/submit/", json=body, headers={"Idempotency-Key": "monday"})
        assert answer.status_code == 201
        return answer.json["job_id"]

    with as_caller(OURS):
        ours = submit(1)
    with as_caller(THEIRS):
        theirs = submit(2)
        assert submit(2) == theirs
    with as_caller(OURS):
        assert submit(1) == ours != theirs


def test_outside_a_request_the_service_sees_all(app: Flask, job: int) -> None:
    with app.app_context():
        assert access.current() is access.SERVICE
        assert jobs.get(job).owner_id == OURS.owner_id


def test_a_request_of_which_nothing_is_known_sees_nothing(app: Flask, job: int) -> None:
    with app.test_request_context("/api/jobs"):
        assert access.current().scopes == frozenset()
        with pytest.raises(NotFoundError):
            jobs.get(job)


def test_an_owners_visits_are_read_along_their_own_index(app: Flask, job: int, backend: Backend) -> None:
    if backend.name == "sqlite":
        pytest.skip("its planner needs no hints, and its plans tell no rows")
    statements: list[tuple[str, Any]] = []
    with app.test_request_context():
        access.enter(OURS)
        event.listen(db.engine, "before_cursor_execute", lambda *call: statements.append((call[2], call[3])))
        found = domain_visits.find(VisitFilter(area="710006"), cursor=None, per_page=10, with_total=True)
        assert (len(found.visits), found.total) == (1, 1)
        walks = [each for each in statements if "visits.state" in each[0]]
        assert len(walks) == 2
        with db.engine.connect() as connection:
            for statement, parameters in walks:
                plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).mappings().all()
                assert "ix_visits_owner_store" in [step["key"] for step in plan]
                assert not any("filesort" in (step["Extra"] or "") for step in plan)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_who_owns_nothing_does_not_see_what_belongs_to_nobody(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=1))
    with app.app_context(), access.acting_as(access.STRANGER):
        found, _ = jobs.find(jobs.JobFilter(), cursor=None, per_page=10)
        assert found == []
        with pytest.raises(NotFoundError):
            jobs.load(db.session(), job)
