"""POST /api/jobs/<id>/retry and GET /api/jobs/<id>/errors."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from app import queues
from app.domain import transactions
from app.domain.outcomes import Outcome, RetryPolicy, failed
from app.domain.works import Work
from app.errors import FetchError
from app.models import Chunk, Visit
from tests.integration import hands
from tests.integration.test_cancel import cancel, status


def retry(client: FlaskClient, job: int, key: str | None = None, **body: Any) -> Any:
    return client.post(f"/api/jobs/{job}/retry", json=body, headers={"Idempotency-Key": key} if key else {})


def images_of(client: FlaskClient, job: int, query: str = "") -> list[Any]:
    return client.get(f"/api/jobs/{job}/images?per_page=1000{query}").json["results"]


def codes(by_seq: dict[int, str]) -> Any:
    """Outcomes: these images fail with these codes, the others are done."""

    def outcome(work: Work) -> Outcome:
        return hands.failed(work, by_seq[work.seq], f"why {work.seq}") if work.seq in by_seq else hands.done(work)

    return outcome


def version_of(app: Flask, job: int, seq: int) -> int:
    with app.app_context():
        return transactions.read(lambda session: session.get(Visit, (job, seq))).version


def test_retry_opens_what_failed_and_keeps_what_is_good(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=15), hands.visit("S01408764", 15))
    hands.work_off(app, codes({3: "http_503", 4: "timeout"}))
    good = images_of(client, job, "&state=done")
    answer = retry(client, job)
    assert (answer.status_code, answer.json) == (202, {"job_id": job, "reopened": 2, "unknown_store": 0})
    assert answer.headers["Location"] == f"/api/status?jobid={job}" and answer.headers["Retry-After"]
    found = status(client, job)
    assert found["status"] == "ongoing"
    assert found["images"] == {"total": 30, "open": 2, "done": 28, "failed": 0, "cancelled": 0}
    assert found["finished_at"] is None and found["retried_at"] and found["eta_seconds"] is None
    row = images_of(client, job, "&state=open")[0]
    assert (row["seq"], row["attempts"], row["error_code"], row["settled_at"]) == (3, 1, None, None)
    hands.expect_books_balanced(app)
    assert hands.work_off(app) == 2
    assert status(client, job)["status"] == "completed"
    assert [row for row in images_of(client, job) if row["seq"] not in (3, 4)] == good
    assert [row["attempts"] for row in images_of(client, job)][:5] == [1, 1, 1, 2, 2]
    [visit] = client.get("/api/visits?storeid=S00339218").json["results"][0]["data"]
    assert (visit["perimeter"], visit["average_seconds"]) == (15_000, 0.25)
    assert (version_of(app, job, 0), version_of(app, job, 1)) == (2, 1)
    hands.expect_books_balanced(app)


def test_images_that_fail_again_fail_the_job_again(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=5))
    hands.work_off(app, hands.failed)
    for attempts in (2, 3):
        assert retry(client, job).json["reopened"] == 5
        hands.work_off(app, hands.failed)
        assert status(client, job)["error"] == [
            {
                "store_id": "S00339218",
                "error": "5 of 5 images failed; first: http_404: the server answered 404 Not Found",
            }
        ]
        assert {row["attempts"] for row in images_of(client, job)} == {attempts}
    assert version_of(app, job, 0) == 3
    hands.expect_books_balanced(app)


def test_retry_by_reason(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=5), hands.visit("S01408764", 5))
    hands.work_off(app, codes({0: "timeout", 1: "http_404", 3: "http_410", 6: "timeout"}))
    assert retry(client, job, error_codes=["timeout", "never_seen"]).json["reopened"] == 2
    assert [row["seq"] for row in images_of(client, job, "&state=open")] == [0, 6]
    hands.expect_books_balanced(app)
    hands.work_off(app)
    found = status(client, job)
    # The image that had failed first is good now: the visit's error is that of the next.
    assert found["error"] == [
        {"store_id": "S00339218", "error": "2 of 5 images failed; first: http_404: why 1"},
    ]
    hands.expect_books_balanced(app)


def test_retry_by_store(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=5), hands.visit("S01408764", 5), hands.visit(images=5))
    hands.work_off(app, hands.failed)
    assert retry(client, job, store_ids=["S00339218"], error_codes=["http_404"]).json["reopened"] == 10
    assert {row["visit"] for row in images_of(client, job, "&state=open")} == {0, 2}
    hands.work_off(app)
    assert [entry["store_id"] for entry in status(client, job)["error"]] == ["S01408764"]
    hands.expect_books_balanced(app)


def test_cancelled_images_are_retried_where_asked_for(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=20), hands.visit("S01408764", 20))
    with app.app_context():
        first, *held = hands.claim()
        hands.settle([first], codes({3: "timeout"}))
        cancel(client, job)
        assert retry(client, job).json["reopened"] == 1
        assert status(client, job)["cancelled_at"] is None
        assert hands.settle(held).counted == 0
    hands.work_off(app)
    assert status(client, job)["state"] == "cancelled"
    hands.expect_books_balanced(app)
    assert retry(client, job).json["reopened"] == 0
    assert retry(client, job, cancelled=True).json["reopened"] == 30
    hands.expect_books_balanced(app)
    hands.work_off(app)
    assert status(client, job)["status"] == "completed"
    hands.expect_books_balanced(app)


def test_an_unknown_store_is_retried_once_the_master_has_it(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    sent = [hands.visit("NEW1", 25), hands.visit(images=5), hands.visit("NEW2", 30), hands.visit("NEW1", 2)]
    job = hands.submit(client, *sent)
    hands.work_off(app)
    nothing = retry(client, job)
    assert (nothing.status_code, nothing.json) == (200, {"job_id": job, "reopened": 0, "unknown_store": 57})
    assert status(client, job)["status"] == "failed"
    hands.add_stores(app, {"NEW1": ("710006", "New")})
    assert retry(client, job).json == {"job_id": job, "reopened": 27, "unknown_store": 30}
    hands.expect_books_balanced(app)
    hands.add_stores(app, {"NEW2": ("710006", "Newer")})
    assert retry(client, job).json == {"job_id": job, "reopened": 30, "unknown_store": 0}
    hands.expect_books_balanced(app)
    with app.app_context():
        seen = sorted(work.seq for claim in hands.claim() for work in claim.work)
    assert seen == [*range(25), *range(30, 62)]
    hands.make_due(app)
    hands.work_off(app)
    assert status(client, job)["status"] == "completed"
    assert version_of(app, job, 0) == 2
    hands.expect_books_balanced(app)


def test_a_job_of_unknown_stores_only_is_retried(app: Flask, client: FlaskClient) -> None:
    job = hands.submit(client, hands.visit(images=45))
    assert retry(client, job).json["unknown_store"] == 45
    hands.add_stores(app)
    with queues._connection().channel() as channel:
        channel.queue_purge(queues.IMAGES)
        assert retry(client, job).json["reopened"] == 45
        assert channel.queue_declare(queue=queues.IMAGES, durable=True).message_count > 0
    hands.expect_books_balanced(app)
    assert hands.work_off(app) == 45
    assert status(client, job)["status"] == "completed"
    hands.expect_books_balanced(app)


def test_a_running_job_is_retried_and_loses_nothing_that_is_under_way(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=20))
    with app.app_context():
        first, second = hands.claim()
        outcomes = [hands.failed(work) for work in first.work[:4]]
        assert hands.lifecycle.settle(outcomes, []).counted == 4
        assert retry(client, job).json["reopened"] == 4
        assert hands.lifecycle.settle(outcomes, []).counted == 0, "a result of before the retry was counted again"
        hands.expect_books_balanced(app)
        # The rest of the chunk is still good, and giving it back makes the reopened ones due.
        rest = [hands.done(work) for work in first.work[4:]]
        assert hands.lifecycle.settle(rest, [(first.key, first.token)]).counted == 6
        hands.settle([second])
    assert hands.work_off(app) == 4
    assert status(client, job)["status"] == "completed"
    assert [row["attempts"] for row in images_of(client, job)][3:5] == [2, 1]
    hands.expect_books_balanced(app)


def test_a_retried_image_has_all_its_attempts_again(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client)
    policy = RetryPolicy(attempts=3, base_seconds=0, max_seconds=0)

    def outcome(work: Work) -> Outcome:
        return failed(work, FetchError("timeout", "slow", transient=True), policy)

    assert hands.work_off(app, outcome) == 3
    assert retry(client, job).json["reopened"] == 1
    assert hands.work_off(app, outcome) == 3
    assert [(row["state"], row["attempts"]) for row in images_of(client, job)] == [("failed", 6)]


def test_a_retried_job_does_not_take_the_turns_that_it_missed(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=300))
    hands.work_off(app, hands.failed)
    other = hands.submit(client, hands.visit(images=2000))
    with app.app_context():
        for _ in range(10):
            hands.claim(images=100)
        retry(client, job)
        given = [hands.claim(images=100)[0].key.job_id for _ in range(4)]
    assert given.count(other) >= 1


def test_nothing_to_retry_is_200_and_changes_nothing(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=5))
    hands.work_off(app)
    before = status(client, job)
    answer = client.post(f"/api/jobs/{job}/retry")
    assert (answer.status_code, answer.json["reopened"]) == (200, 0)
    assert status(client, job) == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("[]", "body"),
        ("{", "body"),
        ('{"error_codes": []}', "error_codes"),
        ('{"error_codes": "timeout"}', "error_codes"),
        ('{"error_codes": [7]}', "error_codes[0]"),
        ('{"store_ids": [""]}', "store_ids[0]"),
        ('{"cancelled": "yes"}', "cancelled"),
    ],
)
def test_a_body_that_cannot_be_taken_names_the_field(client: FlaskClient, body: str, field: str) -> None:
    job = hands.submit(client)
    answer = client.post(f"/api/jobs/{job}/retry", data=body)
    assert answer.status_code == 400
    assert answer.json["error"].startswith(f"{field}: ")


def test_the_same_key_retries_once(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=5))
    hands.work_off(app, hands.failed)
    first = retry(client, job, "again-1")
    hands.work_off(app, hands.failed)
    second = retry(client, job, "again-1")
    assert (second.status_code, second.json) == (first.status_code, first.json)
    assert status(client, job)["images"]["failed"] == 5
    assert retry(client, job, "again-1", error_codes=["http_404"]).status_code == 409
    assert retry(client, job, "again-2").json["reopened"] == 5


@pytest.mark.parametrize("after", [False, True])
def test_a_retry_whose_commit_is_cut_says_what_it_did(
    app: Flask, client: FlaskClient, cut_commit: Any, after: bool
) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=25))
    hands.work_off(app, hands.failed)
    cuts = cut_commit(after=after)
    assert retry(client, job).json["reopened"] == 25
    assert cuts
    hands.expect_books_balanced(app)


@pytest.mark.parametrize("key", [None, "again-1"])
@pytest.mark.parametrize("store", ["S00339218", "LATE"])
def test_retrying_many_times_at_once_opens_each_image_once(
    app: Flask, client: FlaskClient, key: str | None, store: str
) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(store, 120), hands.visit(images=5))
    hands.work_off(app, hands.failed)
    hands.add_stores(app, {"LATE": ("710006", "Late")})
    answers: list[Any] = []
    together = threading.Barrier(8)

    def send() -> None:
        mine = app.test_client()
        together.wait()
        answers.append(retry(mine, job, key))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reopened = sorted(answer.json["reopened"] for answer in answers)
    assert reopened == ([125] * 8 if key else [0] * 7 + [125])
    hands.expect_books_balanced(app)
    assert hands.work_off(app) == 125
    with app.app_context():
        chunks = transactions.read(lambda session: session.scalars(select(Chunk).order_by(Chunk.first_image)).all())
    assert all(one.first_image + one.images <= two.first_image for one, two in itertools.pairwise(chunks))
    hands.expect_books_balanced(app)


def test_errors_are_told_by_code_with_examples(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=20), hands.visit("NOWHERE", 2))
    path = f"/api/jobs/{job}/errors"
    hands.work_off(app, codes(dict.fromkeys(range(4, 9), "http_404") | {1: "timeout"}))
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.json["job_id"] == job
    found = answer.json["results"]
    assert [(group["error_code"], group["images"]) for group in found] == [
        ("http_404", 5),
        ("unknown_store", 2),
        ("timeout", 1),
    ]
    assert [example["seq"] for example in found[0]["examples"]] == [4, 5, 6]
    assert found[2]["examples"] == [{"seq": 1, "url": "https://host/S00339218/1.jpg", "error_message": "why 1"}]
    assert status(client, job)["links"]["errors"] == path
    retry(client, job, error_codes=["http_404", "timeout"])
    assert [group["error_code"] for group in client.get(path).json["results"]] == ["unknown_store"]


def test_a_job_without_errors_tells_none(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client)
    assert client.get(f"/api/jobs/{job}/errors").json == {"job_id": job, "results": []}
    assert client.get("/api/jobs/999999/errors").status_code == 404


def test_retry_while_workers_claim_and_settle(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=400), hands.visit("S01408764", 200))
    counted: list[int] = []
    reopened: list[int] = []
    is_over = threading.Event()

    def outcome(work: Work) -> Outcome:
        return hands.failed(work) if work.seq % 3 == 0 and not work.attempts else hands.done(work)

    def work() -> None:
        with app.app_context():
            while not is_over.is_set():
                for each in hands.claim(images=30):
                    counted.append(hands.settle([each], outcome).counted)
                is_over.wait(0.005)

    def try_again() -> None:
        mine = app.test_client()
        while not is_over.is_set():
            reopened.append(retry(mine, job).json["reopened"])
            if status(mine, job)["status"] == "completed":
                is_over.set()
            is_over.wait(0.02)

    threads = [threading.Thread(target=target) for target in (work, work, try_again, try_again)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    is_over.set()
    assert status(client, job)["images"]["done"] == 600
    assert sum(reopened) == 200
    assert sum(counted) == 800
    hands.expect_books_balanced(app)
