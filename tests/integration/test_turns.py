"""Whose turn it is: owners share evenly, the jobs of an owner share what is theirs, and waiting jobs cost nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select, update

from app.domain import access, chunk_leases, claims, images, jobs, transactions
from app.domain.conveyor import Conveyor
from app.domain.hands import Hands
from app.domain.jobs import NewImage, NewJob
from app.domain.outcomes import Outcome
from app.domain.works import Claim, Room, Work
from app.extensions import db, storage
from app.models import Chunk, Job, JobSource
from app.sql import db_now
from testbed.processes import Process, wait_for
from tests.integration import hands

IMAGES = 1600  # of a job: sixteen chunks
ON_SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def create(owner: int | None, count: int, *, priority: int = 5, host: str = "https://host") -> int:
    new = [NewImage(url=f"{host}/good{number % 5}.jpg?{number}") for number in range(count)]
    with access.acting_for(owner):
        return jobs.create(NewJob(JobSource.MANIFESTS, images=new, priority=priority)).job_id


def claim_images(images: int = 1) -> tuple[int, int] | None:
    """Claim at least so many: of which job, and how many they were."""
    claimed = claims.claim("w1", Room(images, images), lease_seconds=60)
    return (claimed[0].key.job_id, sum(len(each.work) for each in claimed)) if claimed else None


def given_out(times: int) -> Counter[int]:
    """Images by job of so many claims."""
    given: Counter[int] = Counter()
    for _ in range(times):
        if found := claim_images():
            given[found[0]] += found[1]
    return given


def parked(job_id: int) -> bool:
    query = select(Job.parked_until.is_not(None)).where(Job.id == job_id)
    return bool(transactions.read(lambda session: session.scalar(query)))


def test_an_owner_of_many_jobs_gets_no_more_than_one_of_a_single_job(app: Flask) -> None:
    with app.app_context():
        many = [create(1, 50) for _ in range(30)]
        single = create(2, 500)
        given = given_out(40)
        assert given[single] == pytest.approx(sum(given[job] for job in many), rel=0.2)


def test_an_owner_who_comes_back_has_saved_nothing_up(app: Flask) -> None:
    with app.app_context():
        early = create(1, 10)
        assert claim_images() == (early, 10)
        create(2, 2000)
        given_out(10)
        back = create(1, 2000)
        given = given_out(10)
        assert given[back] == pytest.approx(sum(given.values()) / 2, rel=0.2)


def test_jobs_that_keep_coming_do_not_starve_the_large_one_of_their_owner(app: Flask) -> None:
    with app.app_context():
        large = create(1, 2000)
        given_out(1)
        given: Counter[int] = Counter()
        for _ in range(60):
            create(1, 20)
            given += given_out(1)
        assert given[large] >= sum(given.values()) / 4


def test_a_new_job_is_served_at_once(app: Flask) -> None:
    with app.app_context():
        create(1, 2000)
        create(2, 2000)
        given_out(7)
        for owner in (1, 2, 3, None):
            new = create(owner, 1)
            assert new in given_out(2 if owner in (1, 2) else 1)


@ON_SQLITE
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.lists(st.tuples(st.integers(1, 3), st.integers(3, 7)), min_size=2, max_size=6))
def test_no_owner_is_ever_further_behind_than_two_claims(app: Flask, wanted: list[tuple[int, int]]) -> None:
    with app.app_context():
        for table in reversed(db.metadata.sorted_tables):
            transactions.run(lambda session, table=table: session.execute(table.delete()))
        owners = {create(owner, IMAGES, priority=priority): owner for owner, priority in wanted}
        priorities = dict(zip(owners, (priority for _, priority in wanted), strict=True))
        of_owner: Counter[int] = Counter(dict.fromkeys(owners.values(), 0))
        of_job: Counter[int] = Counter(dict.fromkeys(owners, 0))
        given: Counter[int] = Counter()
        while not given or max(given.values()) < IMAGES - 100:  # while all have some left
            found = claim_images()
            assert found
            job, images = found
            given[job] += images
            of_owner[owners[job]] += images / 2.0 ** (priorities[job] - 5)
            of_job[job] += images / 2.0 ** (priorities[job] - 5)
        dearest = 100 / 2.0 ** (min(priorities.values()) - 5)
        assert max(of_owner.values()) - min(of_owner.values()) <= 2 * dearest
        for owner in of_owner:
            own = [of_job[job] for job in owners if owners[job] == owner]
            assert max(own) - min(own) <= (len(own) + 1) * dearest


def test_a_chunk_whose_worker_died_comes_before_those_never_tried(app: Flask) -> None:
    with app.app_context():
        job = create(1, 3000)
        assert [each.key.seq for each in hands.claim(images=200)] == [0, 1]
        assert [each.key.seq for each in hands.claim(images=100)] == [2]
        is_dead = (Chunk.job_id == job) & Chunk.seq.in_([0, 2])
        transactions.run(lambda session: session.execute(update(Chunk).where(is_dead).values(due_at=db_now(-0.001))))
        assert [each.key.seq for each in hands.claim(images=300)] == [0, 2, 3]
        assert [each.key.seq for each in hands.claim(images=100)] == [4]


def statements(work: Callable[[], Any]) -> int:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    work()
    event.remove(db.engine, "before_cursor_execute", note)
    return len(seen)


def test_jobs_that_wait_cost_a_claim_nothing(app: Flask) -> None:
    with app.app_context():
        alone, taken = create(1, 1000), list[Claim]()
        without = statements(lambda: taken.extend(hands.claim(images=62)))
        for _ in range(40):
            create(2, 1)
        waiting = [each for _ in range(40) for each in hands.claim(images=1) if each.key.job_id != alone]
        hands.settle(waiting, lambda work: hands.again(work, 300))
        assert len(waiting) >= 20
        assert all(parked(each.key.job_id) for each in waiting)
        taken.clear()
        with_waiting = statements(lambda: taken.extend(hands.claim(images=62)))
        assert taken
        assert with_waiting == without


def test_a_parked_job_is_awake_when_something_of_it_is_due(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        job = create(1, 30)
        [first, second, third] = hands.claim()
        assert parked(job)
        assert claim_images() is None
        # Put back by its worker: at once. To be tried again: then.
        chunk_leases.release([(first.key, first.token)])
        assert not parked(job) or claim_images() == (job, 10)
        hands.settle([second], lambda work: hands.again(work, 0))
        assert claim_images()
        hands.settle([third], lambda work: hands.again(work, 300))
        assert claim_images() is None
        hands.make_due(app)
        hands.work_off(app, hands.failed)
    hands.expect_books_balanced(app)
    # Retried by hand: at once.
    assert client.post(f"/api/jobs/{job}/retry").json["reopened"] == 30
    with app.app_context():
        assert claim_images(100) == (job, 30)


def test_a_job_is_parked_until_its_lease_ends_and_then_found_again(app: Flask) -> None:
    with app.app_context():
        job = create(1, 5)
        claims.claim("w1", Room(5, 5), lease_seconds=0.2)
        assert parked(job)
        wait_for(lambda: claim_images() == (job, 5), 10, what="the job to be found again")


@ON_SQLITE
def test_a_single_image_passes_those_that_wait_in_a_worker(app: Flask) -> None:
    """Seen from the order in which a worker that is stopped gives back what it has not started."""
    with app.app_context():
        large, single = create(1, 400), create(2, 1)
        by_job = {claimed[0].key.job_id: claimed for claimed in (hands.claim(), hands.claim())}
        works = {job: [work for claim in claimed for work in claim.work] for job, claimed in by_job.items()}
        held, given_back = Hands(), list[Outcome]()
        held.take(claim for claimed in by_job.values() for claim in claimed)
        conveyor = _conveyor(app, held, given_back)
        conveyor.add(works[large])
        conveyor.add(works[single])
        conveyor.stop(time.monotonic() + 10)
        conveyor.run(on_room=lambda: None)
        assert [outcome.work for outcome in given_back] == [*works[single], *works[large]]


@ON_SQLITE
def test_single_images_keep_their_order_and_take_turns_with_the_many(app: Flask) -> None:
    """Whoever comes last would else go first, and the first of a stream of single images wait for its end."""
    with app.app_context():
        jobs = [create(1, images) for images in (400, 1, 1, 1)]
        held, given_back = Hands(), list[Outcome]()
        works: dict[int, list[Work]] = {job: [] for job in jobs}
        while claimed := hands.claim():
            held.take(claimed)
            works[claimed[0].key.job_id] += [work for claim in claimed for work in claim.work]
        many, *singles = (works[job] for job in jobs)
        conveyor = _conveyor(app, held, given_back)
        for each in (many, *singles):
            conveyor.add(each)
        order = [conveyor._next() for _ in range(6)]
        [first], [second], [third] = singles
        assert order == [first, many[0], second, many[1], third, many[2]]
        conveyor.stop(time.monotonic() + 10)
        conveyor.run(on_room=lambda: None)
        assert [outcome.work for outcome in given_back] == many[3:]


@ON_SQLITE
def test_room_that_was_claimed_for_is_not_claimed_for_again(app: Flask) -> None:
    """The claimer may be back before the conveyor has moved: it would fetch far more than there is room for."""
    with app.app_context():
        create(1, 400)
        held, given_back = Hands(), list[Outcome]()
        conveyor = _conveyor(app, held, given_back)
        room = conveyor.room
        held.take(claimed := hands.claim())
        conveyor.add(works := [work for claim in claimed for work in claim.work])
        assert works and conveyor.claimable.images == room - len(works)
        conveyor.stop(time.monotonic() + 10)
        conveyor.run(on_room=lambda: None)
        assert len(given_back) == len(works)
        assert conveyor.claimable.images == room, "all were given back"


def _conveyor(app: Flask, held: Hands, given_back: list[Outcome]) -> Conveyor:
    return Conveyor(images._options(app.config["SETTINGS"]).conveyor, held, given_back.extend, storage)


def test_real_workers_share_by_owner_and_not_by_job(
    app: Flask, host: Any, start_worker: Callable[..., Process]
) -> None:
    with app.app_context():
        many = [create(1, 60, host=host.url) for _ in range(8)]
        single = create(2, 60, host=host.url)
    start_worker(CHUNK_SIZE="10", SLOTS="10")
    client = app.test_client()
    wait_for(lambda: all(row["finished_at"] for row in client.get("/api/jobs").json["results"]), 60, what="all jobs")
    with app.app_context():
        end = transactions.read(lambda session: session.scalar(select(Job.finished_at).where(Job.id == single)))
        query = select(Job.id).where(Job.id.in_(many), Job.finished_at < end)
        earlier = transactions.read(lambda session: session.scalars(query).all())
        assert len(earlier) <= 3, "one by one, each of the many has its part of one half"
    hands.expect_books_balanced(app)
