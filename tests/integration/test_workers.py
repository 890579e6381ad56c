"""Jobs worked off by real worker processes that fetch from a real host, on both backends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text

from app.domain import transactions
from app.extensions import db
from app.models import Chunk, Visit
from demo.host import Host
from testbed.processes import Process, wait_for
from tests.conftest import Backend
from tests.integration.hands import add_stores, expect_books_balanced, submit, visit

SETTLED_SECONDS = 90


def good(host: Host, images: int) -> list[str]:
    return [f"{host.url}/good{number % 5}.jpg?n={number}" for number in range(images)]


def asked(host: Host) -> Counter[str]:
    """How often each path was asked for, but for the question itself."""
    counts = Counter(host.counts())
    del counts["/times"]
    return counts


def status(client: FlaskClient, job_id: int) -> dict[str, Any]:
    return client.get(f"/api/status?jobid={job_id}").json


def wait_until_settled(client: FlaskClient, job_id: int) -> dict[str, Any]:
    wait_for(lambda: status(client, job_id)["status"] != "ongoing", SETTLED_SECONDS, what=f"the end of job {job_id}")
    return status(client, job_id)


def wait_until_some_done(client: FlaskClient, job_id: int, images: int) -> None:
    wait_for(lambda: status(client, job_id)["images"]["done"] >= images, SETTLED_SECONDS, what=f"{images} images done")


def images_of(client: FlaskClient, job_id: int, query: str = "") -> list[dict[str, Any]]:
    return client.get(f"/api/jobs/{job_id}/images?per_page=1000{query}").json["results"]


def workers_of(app: Flask, job_id: int) -> set[str | None]:
    with app.app_context():
        query = select(Chunk.claimed_by).where(Chunk.job_id == job_id)
        return set(transactions.read(lambda session: session.scalars(query).all()))


def test_bad_image_fails_itself_and_its_store_and_nothing_else(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process]
) -> None:
    add_stores(app)
    start_worker()
    job_id = submit(
        client,
        visit("S00339218", [f"{host.url}/good0.jpg", f"{host.url}/small.png"]),
        visit("S01408764", [f"{host.url}/good1.jpg", f"{host.url}/page.jpg", f"{host.url}/cut.jpg"]),
        visit("S02000001", [f"{host.url}/nothing.jpg"]),
        visit("S_UNKNOWN", [f"{host.url}/good2.jpg"]),
    )
    found = wait_until_settled(client, job_id)
    assert found["status"] == "failed"
    assert [entry["store_id"] for entry in found["error"]] == ["S01408764", "S02000001", "S_UNKNOWN"]
    codes = [image["error_code"] for image in images_of(client, job_id)]
    assert codes == [None, None, None, "not_an_image", "broken_image", "http_404", "unknown_store"]
    assert "/good2.jpg" not in host.counts(), "an unknown store's image was downloaded"
    results = client.get("/api/visits?area=710006").json["results"]
    assert [(store["store_id"], [visit["perimeter"] for visit in store["data"]]) for store in results] == [
        ("S00339218", [2 * (64 + 48) + 2 * (30 + 20)])
    ]
    first = images_of(client, job_id)[0]
    assert (first["width"], first["height"], first["perimeter"], first["format"]) == (64, 48, 224, "JPEG")
    assert first["bytes"] > 0 and first["attempts"] == 1 and first["seconds"] >= 0.05
    expect_books_balanced(app)


def test_names_that_do_not_exist_end_as_coded_failures(
    app: Flask, client: FlaskClient, start_worker: Callable[..., Process]
) -> None:
    add_stores(app)
    start_worker()
    job_id = submit(client, visit(images=[f"http://shop{number}.invalid/1.jpg" for number in range(1500)]))
    assert wait_until_settled(client, job_id)["images"]["failed"] == 1500
    assert {image["error_code"] for image in images_of(client, job_id)} == {"dns_not_found"}
    expect_books_balanced(app)


def test_failure_that_may_pass_is_tried_again_and_the_last_one_counts(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process], recover: Process
) -> None:
    add_stores(app)
    start_worker(RETRY_ATTEMPTS="3")
    job_id = submit(client, visit(images=[f"{host.url}/status/503", f"{host.url}/status/404", *good(host, 3)]))
    wait_until_settled(client, job_id)
    images = images_of(client, job_id)
    assert [(image["error_code"], image["attempts"]) for image in images[:2]] == [("http_503", 3), ("http_404", 1)]
    assert [image["state"] for image in images[2:]] == ["done"] * 3
    assert host.counts()["/status/503"] == 3
    expect_books_balanced(app)


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_worker_whose_results_cannot_be_written_claims_no_more(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process]
) -> None:
    """Else its leases run out one after the other, and the same images are downloaded again and again."""
    add_stores(app)
    job_id = submit(client, visit(images=good(host, 300)))
    longest_wait = text(
        "SELECT MAX(TIMESTAMPDIFF(MICROSECOND, trx_wait_started, SYSDATE(6))) / 1e6 FROM information_schema.innodb_trx"
    )
    with app.app_context(), db.engine.connect() as holder, db.engine.connect() as watcher:
        holder.execute(select(Visit.seq).where(Visit.job_id == job_id).with_for_update())
        start_worker(SLOTS="20", CHUNK_SIZE="20", LEASE_SECONDS="1")
        wait_for(lambda: (watcher.scalar(longest_wait) or 0) > 4, 60, what="a write that waits", every=0.25)
        assert sum(host.counts().values()) < 300
        holder.rollback()
    wait_until_settled(client, job_id)
    expect_books_balanced(app)


def test_address_that_is_not_allowed_is_never_asked(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process]
) -> None:
    add_stores(app)
    start_worker(FETCH_ALLOWED_NETWORKS="127.0.0.2/32")
    job_id = submit(client, visit(images=[f"{host.url}/good0.jpg"]))
    wait_until_settled(client, job_id)
    assert images_of(client, job_id)[0]["error_code"] == "blocked_address"
    assert not asked(host)


def test_job_survives_sigkill_of_its_worker(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process], recover: Process
) -> None:
    add_stores(app)
    slow = {"SLOTS": "40", "GPU_PAUSE_MIN_SECONDS": "0.1", "GPU_PAUSE_MAX_SECONDS": "0.2"}
    first = start_worker(**slow)
    job_id = submit(client, visit(images=good(host, 600)))
    wait_until_some_done(client, job_id, 100)
    first.kill()
    done_before = status(client, job_id)["images"]["done"]
    assert done_before < 600, "the worker was killed too late to prove anything"
    start_worker(**slow)
    found = wait_until_settled(client, job_id)
    assert found["images"] == {"total": 600, "open": 0, "done": 600, "failed": 0, "cancelled": 0}
    assert len(workers_of(app, job_id)) == 2
    expect_books_balanced(app)


def test_two_workers_share_one_job(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process], recover: Process
) -> None:
    add_stores(app)
    slow = {"SLOTS": "20", "CHUNK_SIZE": "10"}
    start_worker(**slow)
    start_worker(**slow)
    job_id = submit(client, visit(images=good(host, 1000)))
    wait_for(lambda: len(workers_of(app, job_id) - {None}) == 2, SETTLED_SECONDS, what="a second worker at the job")
    wait_until_settled(client, job_id)
    assert asked(host).total() == 1000, "an image was downloaded twice, or not at all"
    expect_books_balanced(app)


def test_sigterm_finishes_what_is_in_flight_and_gives_the_rest_back(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process], recover: Process
) -> None:
    add_stores(app)
    slow = {"SLOTS": "40", "LEASE_SECONDS": "3600", "GPU_PAUSE_MIN_SECONDS": "0.2", "GPU_PAUSE_MAX_SECONDS": "0.3"}
    first = start_worker(**slow)
    job_id = submit(client, visit(images=good(host, 600)))
    wait_until_some_done(client, job_id, 50)
    assert first.stop(35) == 0
    assert 0 < status(client, job_id)["images"]["open"] < 600
    # With leases of an hour the rest is worked on only because it was given back.
    start_worker(**slow)
    wait_until_settled(client, job_id)
    assert asked(host).total() == 600, "an image was downloaded twice"
    expect_books_balanced(app)


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_job_survives_a_broker_that_forgets_everything(
    app: Flask,
    client: FlaskClient,
    host: Host,
    backend: Backend,
    start_worker: Callable[..., Process],
    recover: Process,
) -> None:
    add_stores(app)
    job_id = submit(client, visit(images=good(host, 600)))
    redis.Redis.from_url(backend.redis_url).flushall()
    start_worker(SLOTS="40", SLICE_SECONDS="1")
    wait_until_some_done(client, job_id, 100)
    redis.Redis.from_url(backend.redis_url).flushall()
    assert wait_until_settled(client, job_id)["images"]["done"] == 600
    assert asked(host).total() == 600
    expect_books_balanced(app)


def test_small_job_is_not_starved_by_a_large_one(
    app: Flask, client: FlaskClient, host: Host, start_worker: Callable[..., Process], recover: Process
) -> None:
    add_stores(app)
    start_worker(SLOTS="20", CHUNK_SIZE="10", GPU_PAUSE_MIN_SECONDS="0.2", GPU_PAUSE_MAX_SECONDS="0.3")
    large = submit(client, visit(images=good(host, 2000)))
    wait_until_some_done(client, large, 10)
    small = submit(client, visit(images=good(host, 1)))
    wait_until_settled(client, small)
    assert status(client, large)["status"] == "ongoing"
    assert client.get("/api/jobs").json["results"][0]["job_id"] == small
