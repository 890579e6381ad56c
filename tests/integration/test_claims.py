"""Claims and the books: what workers do to a job, done by hand."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from app.domain import chunk_leases, claims, lifecycle, transactions
from app.domain.works import ChunkKey, Room, Work
from app.extensions import db
from app.models import Chunk, Image
from tests.integration import hands


def chunks(app: Flask) -> list[tuple[int, int]]:
    with app.app_context():
        rows = transactions.read(lambda session: session.execute(select(Chunk).order_by(Chunk.job_id, Chunk.seq)))
        return [(chunk.first_image, chunk.images) for (chunk,) in rows]


@pytest.mark.parametrize(
    ("images", "size", "expected"),
    [
        (1, 100, [(0, 1)]),
        (25, 100, [(0, 10), (10, 10), (20, 5)]),
        (320, 100, [(n * 20, 20) for n in range(16)]),
        (2500, 100, [(n * 100, 100) for n in range(25)]),
        (12, 5, [(0, 5), (5, 5), (10, 2)]),
    ],
)
def test_a_job_is_cut_so_that_every_worker_gets_a_piece(
    make_app: Any, images: int, size: int, expected: list[tuple[int, int]]
) -> None:
    app = make_app(CHUNK_SIZE=size)
    hands.add_stores(app)
    hands.submit(app.test_client(), hands.visit(images=images))
    with app.app_context():
        query = select(Chunk.first_image, Chunk.images).order_by(Chunk.seq)
        assert transactions.read(lambda session: [tuple(row) for row in session.execute(query)]) == expected


def test_a_stretch_of_unknown_stores_only_gets_no_chunk(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit("NOWHERE", 25), hands.visit(images=2), hands.visit("NOWHERE", 30))
    with app.app_context():
        [claim] = hands.claim()
        assert [work.seq for work in claim.work] == [25, 26]
        assert hands.settle([claim]).closed_jobs
        assert hands.claim() == []
    hands.expect_books_balanced(app)


def test_nothing_is_claimed_twice_while_its_lease_runs(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit(images=45))
    with app.app_context():
        first = hands.claim(images=20, worker="w1")
        second = hands.claim(images=1000, worker="w2")
        assert [len(each.work) for each in first + second] == [10, 10, 10, 10, 5]
        assert len({work.seq for each in first + second for work in each.work}) == 45
        assert claims.claim("w3", Room(1, 1), lease_seconds=60) is None


def test_a_stale_worker_is_refused(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit(images=5))
    with app.app_context():
        stale = hands.claim(worker="stale")
        hands.make_due(app)
        fresh = hands.claim(worker="fresh")
        assert fresh[0].token == stale[0].token + 1
        assert hands.settle(stale, hands.failed).counted == 0
        chunk_leases.renew([(stale[0].key, stale[0].token)], lease_seconds=0)
        assert hands.claim() == []
        settlement = hands.settle(fresh)
        assert (settlement.counted, settlement.refused) == (5, 0)
        assert hands.settle(stale, hands.failed).refused == 5
    hands.expect_books_balanced(app)
    assert client.get("/api/jobs").json["results"][0]["status"] == "completed"


def test_settling_again_is_harmless(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit(images=15))
    with app.app_context():
        claimed = hands.claim()
        hands.settle(claimed[:1])
        # A batch of which a part was settled before, as after a COMMIT whose answer was lost.
        both = [hands.done(work) for each in claimed for work in each.work]
        settlement = lifecycle.settle(both, [(each.key, each.token) for each in claimed])
        assert settlement.counted == 5
        assert settlement.closed_jobs
        assert lifecycle.settle(both, []).counted == 0
    hands.expect_books_balanced(app)


def test_a_chunk_given_back_is_due_at_once(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit(images=5))
    with app.app_context():
        [claim] = hands.claim()
        chunk_leases.release([(claim.key, claim.token)])
        [again] = hands.claim(worker="w2")
        assert (again.token, len(again.work)) == (claim.token + 1, 5)


def test_jobs_take_turns_by_priority(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    low, normal, high = (hands.submit(client, hands.visit(images=2000), priority=priority) for priority in (4, 5, 6))
    given: Counter[int] = Counter()
    with app.app_context():
        for _ in range(28):
            for claim in hands.claim(images=100):
                given[claim.key.job_id] += len(claim.work)
    assert given[high] == pytest.approx(2 * given[normal], rel=0.2)
    assert given[normal] == pytest.approx(2 * given[low], rel=0.2)


def test_a_small_job_is_served_beside_a_large_one(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit(images=2000))
    with app.app_context():
        for _ in range(3):
            hands.claim(images=100)
    small = hands.submit(client, hands.visit(images=10))
    with app.app_context():
        assert hands.claim(images=100)[0].key.job_id == small
        first = hands.claim(images=100)[0].key.job_id
        assert first != small
        assert claims.claim("w1", Room(100, 100), lease_seconds=60, avoid_jobs=[first]) is None


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)  # SQLite has one writer at a time
def test_chunks_that_another_worker_is_just_claiming_are_skipped(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=30))
    with app.app_context(), db.engine.connect() as other:
        is_first = (Chunk.job_id == job) & (Chunk.seq == 0)
        other.execute(select(Chunk.seq).where(is_first).with_for_update()).all()
        assert [each.key.seq for each in hands.claim()] == [1, 2]
        assert claims.claim("w2", Room(100, 100), lease_seconds=60) == []
        other.rollback()
        assert [each.key.seq for each in hands.claim()] == [0]


def test_many_workers_claim_and_settle_at_once(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    for store in hands.STORES:
        hands.submit(client, hands.visit(store, 200), hands.visit("S00339218", 100))
    counted: list[int] = []

    def work() -> None:
        with app.app_context():
            while (claimed := claims.claim("w", Room(40, 40), lease_seconds=60)) is not None:
                outcomes = [hands.failed(w) if w.seq % 7 == 0 else hands.done(w) for c in claimed for w in c.work]
                counted.append(lifecycle.settle(outcomes, [(c.key, c.token) for c in claimed]).counted)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counted) == 900
    hands.expect_books_balanced(app)
    assert {job["images"]["open"] for job in client.get("/api/jobs").json["results"]} == {0}


@pytest.mark.parametrize("after", [False, True])
def test_a_submit_whose_commit_is_cut_makes_one_job(
    app: Flask, client: FlaskClient, cut_commit: Any, after: bool
) -> None:
    hands.add_stores(app)
    cuts = cut_commit(after=after)
    job = hands.submit(client, hands.visit(images=20))
    assert cuts
    assert [found["job_id"] for found in client.get("/api/jobs").json["results"]] == [job]
    hands.expect_books_balanced(app)


@pytest.mark.parametrize("after", [False, True])
def test_an_idempotent_submit_whose_commit_is_cut_is_new(client: FlaskClient, cut_commit: Any, after: bool) -> None:
    cut_commit(after=after)
    answers = [client.post("/api/submit/", json=hands.body(), headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json == answers[1].json
    assert len(client.get("/api/jobs").json["results"]) == 1


@pytest.mark.parametrize("after", [False, True])
def test_a_settlement_whose_commit_is_cut_counts_once(
    app: Flask, client: FlaskClient, cut_commit: Any, after: bool
) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=15))
    with app.app_context():
        claimed = hands.claim()
        cuts = cut_commit(after=after)
        hands.settle(claimed)
        assert cuts
    hands.expect_books_balanced(app)
    assert client.get(f"/api/status?jobid={job}").json["status"] == "completed"


def test_text_of_any_kind_survives_the_batch(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client)
    message = "quo\"te's \\ back\\\\slash %s :name \n \u2028 é 😀 {} [1,2]"
    with app.app_context():
        hands.settle(hands.claim(), lambda work: hands.failed(work, "odd", message))
    row = client.get(f"/api/jobs/{job}/images").json["results"][0]
    assert (row["error_code"], row["error_message"]) == ("odd", message)


def test_a_large_image_keeps_its_numbers(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client)

    def outcome(work: Work) -> lifecycle.Outcome:
        return lifecycle.Outcome(
            work, hands.ImageState.DONE, seconds=12.3456, width=2**31 - 1, height=1, perimeter=2**32, bytes=2**40
        )

    with app.app_context():
        hands.settle(hands.claim(), outcome)
        row = transactions.read(lambda session: session.get(Image, (job, 0)))
        assert (row.width, row.perimeter, row.bytes, row.seconds) == (2**31 - 1, 2**32, 2**40, 12.3456)
    assert client.get(f"/api/jobs/{job}/images").json["results"][0]["seconds"] == 12.346


def test_a_lease_that_ran_out_is_due_again(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client)
    with app.app_context():
        claims.claim("w1", Room(1, 1), lease_seconds=-1)
        [claim] = hands.claim()
        assert claim.key == ChunkKey(job, 0)
        transactions.run(lambda session: session.execute(update(Chunk).values(claim=Chunk.claim + 1)))
        assert hands.settle([claim]).refused == 1
