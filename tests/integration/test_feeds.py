"""images_info_async and batch_predict: what comes onto the lists of Redis, and that nothing is lost on the way."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from app import broker
from app.domain import doctor, feeder, purges, transactions
from app.domain.feeder import Feeder
from app.domain.outcomes import Outcome
from app.domain.works import Work
from app.models import FeedItem, Image
from tests.conftest import Backend
from tests.integration import hands

ASYNC = "/api/v1/images_info_async/"
BATCH = "/api/v1/batch_predict/"
on_one_backend = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def lists(backend: Backend) -> Iterator[redis.Redis]:
    url = broker.client_url(backend.redis_url, backend.data_dir)
    with redis.Redis.from_url(url, decode_responses=True) as client:
        forget(client)
        yield client
        forget(client)


def forget(lists: redis.Redis) -> None:
    """Redis has lost everything that is ours."""
    if found := lists.keys("queue:*"):
        lists.delete(*found)


@pytest.fixture
def feed(app: Flask, lists: redis.Redis) -> Callable[..., bool]:
    """Feed until there is nothing to do; ``as_one_who`` starts with a new feeder."""

    def run(**limits: Any) -> bool:
        with app.app_context():
            one = Feeder(lists)
            fed = [one.feed()]
            while fed[-1]:
                fed.append(one.feed())
            one.resign()
            return any(fed)

    return run


def post(client: FlaskClient, path: str, images: int, **fields: Any) -> int:
    manifest = b"id\turl\n" + b"".join(b"id%d\thttp://h/%d\n" % (number, number) for number in range(images))
    answer = client.post(path, data={"file": (io.BytesIO(manifest), "images.tsv"), **fields})
    assert answer.status_code == 200, answer.text
    assert answer.json["ok"] == "Processing Images"
    assert answer.headers["Location"] == f"/api/status?jobid={answer.json['job_id']}"
    return answer.json["job_id"]


def tensor_of(work: Work) -> bytes:
    return np.random.default_rng(work.seq).integers(0, 256, 3 * 64 * 64, np.uint8).tobytes()


def with_tensor(work: Work) -> Outcome:
    result = {"shape": [3, 64, 64], "dtype": "uint8", "data": base64.b64encode(tensor_of(work)).decode()}
    results = {"tensor": {"version": "1", "result": result}, "other": {"version": "1", "result": {"x": 1}}}
    return hands.done(work)._replace(results=json.dumps(results))


def every_third_fails(work: Work) -> Outcome:
    return hands.failed(work) if work.seq % 3 == 2 else with_tensor(work)


def on(lists: redis.Redis, name: str) -> list[dict[str, Any]]:
    return [json.loads(entry) for entry in lists.lrange(f"queue:{name}", 0, -1)]


def items(app: Flask) -> int:
    with app.app_context():
        return transactions.read(lambda session: session.scalar(select(func.count()).select_from(FeedItem)))


def test_each_image_is_told_by_its_id_as_it_is_done(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool]
) -> None:
    job = post(client, ASYNC, 3)
    feed()
    assert on(lists, "images") == []
    with app.app_context():
        [claim] = hands.claim()
        hands.lifecycle.settle([hands.done(claim.work[1])], [])
    feed()
    assert on(lists, "images") == [
        {
            "id1": {
                "url": "http://h/1",
                "image_info": {"image_size": 20000, "image_dimension": [300, 200], "image_format": "JPEG"},
                "job_id": job,
                "image_id": 1,
            }
        }
    ]
    with app.app_context():
        hands.lifecycle.settle(
            [hands.failed(claim.work[0], "not_an_image"), hands.failed(claim.work[2])], [(claim.key, claim.token)]
        )
    feed()
    assert on(lists, "images")[1:] == [
        {f"id{seq}": {"url": f"http://h/{seq}", "image_info": "", "error": error, "job_id": job, "image_id": seq}}
        for seq, error in ((0, "Image could not be opened."), (2, "Image could not be requested."))
    ]


def test_an_image_that_is_tried_again_is_told_once_it_is_settled(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool]
) -> None:
    post(client, ASYNC, 1)
    hands.work_off(app, lambda work: hands.again(work, 60))
    hands.make_due(app)
    feed()
    assert on(lists, "images") == []
    hands.work_off(app)
    feed()
    assert len(on(lists, "images")) == 1


def test_batches_hold_tensors_and_name_the_failed(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool]
) -> None:
    job = post(client, BATCH, 10, batch_size=3)
    hands.work_off(app, every_third_fails)
    feed()
    found = on(lists, "batch")
    assert [entry["batch_dimension"] for entry in found] == ["(3, 3, 64, 64)", "(3, 3, 64, 64)", "(1, 3, 64, 64)"]
    good = [seq for seq in range(10) if seq % 3 != 2]
    for entry in found:
        array = np.array(entry["images"], np.uint8)
        assert str(array.shape) == entry["batch_dimension"]
        seqs = [good.pop(0) for _ in range(len(array))]
        assert entry["image_ids"] == seqs
        assert entry["ids"] == [f"id{seq}" for seq in seqs]
        assert entry["job_id"] == job
        for row, seq in zip(array, seqs, strict=True):
            assert row.tobytes() == np.random.default_rng(seq).integers(0, 256, 3 * 64 * 64, np.uint8).tobytes()
    assert [failed for entry in found for failed in entry["failed"]] == [
        {"id": f"id{seq}", "image_id": seq, "url": f"http://h/{seq}", "error": "Image could not be requested."}
        for seq in (2, 5, 8)
    ]


@on_one_backend
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_tensors_come_as_numbers_or_as_bytes(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool], dtype: str
) -> None:
    for encoding in ("json", "base64"):
        post(client, BATCH, 2, batch_size=2, dtype=dtype, encoding=encoding)
    hands.work_off(app, with_tensor)
    feed()
    [as_json, as_bytes] = on(lists, "batch")
    assert {entry["dtype"] for entry in (as_json, as_bytes)} == {dtype}
    assert "data" not in as_json and "images" not in as_bytes
    array = np.frombuffer(base64.b64decode(as_bytes["data"]), dtype).reshape(as_bytes["shape"])
    assert np.array_equal(np.array(as_json["images"], dtype), array)
    raw = np.random.default_rng(1).integers(0, 256, 3 * 64 * 64, np.uint8).reshape(3, 64, 64)
    expected = raw if dtype == "uint8" else raw.astype("float32") / np.float32(255)
    assert np.array_equal(array[1], expected)


def test_tensors_leave_the_rows_of_images_and_other_results_stay(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool]
) -> None:
    job = post(client, BATCH, 2, batch_size=1)
    hands.work_off(app, with_tensor)
    results = client.get(f"/api/jobs/{job}/results.json").json["results"][0]["results"]
    assert results["tensor"] == {"version": "1", "result": {"shape": [3, 64, 64], "dtype": "uint8"}}
    assert results["other"]["result"] == {"x": 1}
    feed()
    lists.lpop("queue:batch", 2)
    feed()
    assert items(app) == 0


@pytest.mark.parametrize("fields", [{}, {"batch_size": 0}])
def test_without_a_batch_size_nothing_is_queued(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool], fields: dict[str, Any]
) -> None:
    job = post(client, BATCH, 3, **fields)
    hands.work_off(app)
    feed()
    assert on(lists, "batch") == []
    assert items(app) == 0
    assert client.get(f"/api/status?jobid={job}").json["status"] == "completed"


@on_one_backend
@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"batch_size": -1}, "batch_size: not a whole number"),
        ({"batch_size": "five"}, "batch_size: not a whole number"),
        ({"batch_size": 1.5}, "batch_size: not a whole number"),
        ({"batch_size": 1025}, "batch_size: more than 1024"),
        ({"batch_size": "9" * 50}, "batch_size: not a whole number"),
        ({"batch_size": 5, "dtype": "int64"}, "dtype: must be one of uint8, float32"),
        ({"batch_size": 5, "encoding": "hex"}, "encoding: must be one of json, base64"),
    ],
)
def test_odd_options_are_refused(client: FlaskClient, fields: dict[str, Any], sentence: str) -> None:
    manifest = io.BytesIO(b"id\turl\n0\thttp://h/0\n")
    answer = client.post(BATCH, data={"file": (manifest, "images.tsv"), **fields})
    assert (answer.status_code, answer.json) == (422, {"error": sentence})
    assert client.get("/api/jobs").json["results"] == []


@on_one_backend
def test_a_batch_in_which_all_fail_is_told_without_images(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder, "FAILED_AN_ENTRY", 4)
    post(client, BATCH, 10, batch_size=5)
    hands.work_off(app, hands.failed)
    feed()
    assert [(len(entry["failed"]), entry["batch_dimension"], entry["images"]) for entry in on(lists, "batch")] == [
        (number, "(0, 3, 64, 64)", []) for number in (4, 4, 2)
    ]


@on_one_backend
def test_a_tensor_that_could_not_be_made_has_failed(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool]
) -> None:
    post(client, BATCH, 1, batch_size=5)
    error = {"tensor": {"version": "1", "error": {"code": "broken_image", "message": "cut"}}}
    hands.work_off(app, lambda work: hands.done(work)._replace(results=json.dumps(error)))
    feed()
    [entry] = on(lists, "batch")
    assert (entry["batch_dimension"], entry["failed"][0]["error"]) == ("(0, 3, 64, 64)", "Image could not be opened.")


@on_one_backend
def test_a_short_batch_waits_for_the_end_of_its_job(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool]
) -> None:
    job = post(client, BATCH, 4, batch_size=3)
    with app.app_context():
        [claim] = hands.claim()
        hands.lifecycle.settle([with_tensor(work) for work in claim.work[:2]], [])
    feed()
    assert on(lists, "batch") == []
    client.post(f"/api/jobs/{job}/cancel")
    feed()
    [entry] = on(lists, "batch")
    assert entry["ids"] == ["id0", "id1"]
    assert [(told["id"], told["cancelled"]) for told in entry["failed"]] == [("id2", True), ("id3", True)]


def test_a_job_that_is_cancelled_tells_of_what_was_open_too(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool], cut_commit: Any
) -> None:
    """Whoever counts the entries of a manifest would wait for ever."""
    job = post(client, ASYNC, 3)
    with app.app_context():
        [claim] = hands.claim()
        hands.lifecycle.settle([hands.done(claim.work[1])], [])
    cut_commit(after=True)
    client.post(f"/api/jobs/{job}/cancel")
    feed()
    told = {key: value for entry in on(lists, "images") for key, value in entry.items()}
    assert len(on(lists, "images")) == len(told) == 3
    assert told["id1"]["image_info"]["image_size"] == 20000
    expected = {"image_info": "", "error": "Timeout while requesting Image.", "job_id": job, "cancelled": True}
    assert told["id0"] == expected | {"url": "http://h/0", "image_id": 0}
    assert told["id2"] == expected | {"url": "http://h/2", "image_id": 2}
    client.post(f"/api/jobs/{job}/retry", json={"cancelled": True})
    hands.work_off(app)
    feed()
    again = {key: value for entry in on(lists, "images")[3:] for key, value in entry.items()}
    assert set(again) == {"id0", "id2"} and not any("cancelled" in value for value in again.values())


def test_a_full_list_holds_the_rest_back_and_nothing_is_dropped(
    make_app: Callable[..., Flask], lists: redis.Redis
) -> None:
    app = make_app(RESULTS_QUEUE_MAX=4)
    client = app.test_client()
    post(client, ASYNC, 10)
    post(client, BATCH, 10, batch_size=3)
    hands.work_off(app, with_tensor)
    images: list[str] = []
    batches: list[str] = []
    with app.app_context():
        one = Feeder(lists)
        for _ in range(40):
            one.feed()
            assert lists.llen("queue:images") <= 4
            assert sum(len(entry["ids"]) for entry in on(lists, "batch")) <= 4
            images += [next(iter(json.loads(entry))) for entry in lists.lpop("queue:images", 2) or []]
            batches += [key for entry in lists.lpop("queue:batch", 1) or [] for key in json.loads(entry)["ids"]]
        one.resign()
    assert images == batches == [f"id{seq}" for seq in range(10)]
    assert items(app) == 0


@on_one_backend
def test_a_batch_larger_than_the_list_is_let_on_alone(make_app: Callable[..., Flask], lists: redis.Redis) -> None:
    app = make_app(RESULTS_QUEUE_MAX=2)
    post(app.test_client(), BATCH, 6, batch_size=3)
    hands.work_off(app, with_tensor)
    with app.app_context():
        one = Feeder(lists)
        for left in (1, 1):
            one.feed()
            assert lists.llen("queue:batch") == left
            lists.lpop("queue:batch")
        one.resign()


def test_a_redis_that_comes_back_empty_is_told_again(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool]
) -> None:
    post(client, ASYNC, 5)
    hands.work_off(app)
    feed()
    taken = [json.loads(entry) for entry in lists.lpop("queue:images", 2)]
    feed()
    forget(lists)
    feed()
    told = [next(iter(entry)) for entry in [*taken, *on(lists, "images")]]
    assert told == ["id0", "id1", "id2", "id3", "id4"], "what had been taken was not told twice"


@on_one_backend
def test_a_feeder_that_dies_before_it_remembers_tells_again(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    post(client, ASYNC, 3)
    hands.work_off(app)

    class KilledError(Exception):
        pass

    def die(_work: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patched, app.app_context():
        one = Feeder(lists)
        patched.setattr(transactions, "run", die)
        with pytest.raises(KilledError):
            one.feed()
        one.resign()
    feed()
    told = [next(iter(entry)) for entry in on(lists, "images")]
    assert told == ["id0", "id1", "id2"] * 2
    keys = {(entry["job_id"], entry["image_id"]) for each in on(lists, "images") for entry in each.values()}
    assert len(keys) == 3, "a consumer can tell that they are repeats"


@on_one_backend
def test_one_feeder_at_a_time(app: Flask, client: FlaskClient, lists: redis.Redis) -> None:
    post(client, ASYNC, 3)
    hands.work_off(app)
    with app.app_context():
        first, second = Feeder(lists), Feeder(lists)
        assert first.feed()
        assert not second.feed()
        post(client, ASYNC, 1)
        hands.work_off(app)
        assert not second.feed()
        first.resign()
        assert second.feed()
        assert not first.feed()
        second.resign()
    assert len(on(lists, "images")) == 4


@on_one_backend
def test_a_feeder_that_was_frozen_puts_nothing_on_before_it_looks(
    app: Flask, client: FlaskClient, lists: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(client, ASYNC, 3)
    hands.work_off(app)
    with app.app_context():
        frozen, other = Feeder(lists), Feeder(lists)
        put = frozen._put

        def put_later(*arguments: Any) -> int:
            frozen.resign()
            other.feed()
            other.resign()
            return put(*arguments)

        monkeypatch.setattr(frozen, "_put", put_later)
        assert frozen.feed(), "it should look again at once"
        assert not frozen.feed()
    assert [next(iter(entry)) for entry in on(lists, "images")] == ["id0", "id1", "id2"]


@on_one_backend
def test_a_small_job_is_not_held_up_by_a_large_one(
    app: Flask, client: FlaskClient, lists: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder, "IMAGES_A_TURN", 5)
    post(client, ASYNC, 50)
    small = post(client, ASYNC, 3)
    hands.work_off(app)
    with app.app_context():
        one = Feeder(lists)
        one.feed()
        one.resign()
    assert [entry["job_id"] for each in on(lists, "images") for entry in each.values()].count(small) == 3


def test_a_retry_tells_what_was_opened_again(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool]
) -> None:
    job = post(client, ASYNC, 2)
    hands.work_off(app, lambda work: hands.failed(work) if work.seq else hands.done(work))
    client.post(f"/api/jobs/{job}/retry")
    feed()
    assert [list(entry) for entry in on(lists, "images")] == [["id0"]], "the other is being tried again"
    hands.work_off(app)
    feed()
    assert on(lists, "images")[1]["id1"]["image_info"]["image_size"] == 20000


@on_one_backend
def test_the_doctor_says_what_waits(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[tuple[str, str]]:
        with app.app_context():
            return [(each.level.value, each.sentence) for each in doctor.examine() if each.about == "lists"]

    assert told() == [("fine", "nothing waits to be told on queue:images or queue:batch")]
    post(client, ASYNC, 2)
    hands.work_off(app)
    assert told() == [("fine", "queue:images: 0 images lie there, 2 wait to be put on")]
    monkeypatch.setattr(doctor, "LONG_WAITING_SECONDS", 0)
    assert told()[0][0] == "BAD"
    feed()
    assert told() == [("fine", "queue:images: 2 images lie there, 0 wait to be put on")]


def test_a_purged_job_takes_its_items_along(
    app: Flask, client: FlaskClient, lists: redis.Redis, feed: Callable[..., bool]
) -> None:
    post(client, ASYNC, 2)
    hands.work_off(app)
    with app.app_context():
        assert purges.purge(1e-9) == 1
    assert items(app) == 0
    assert not feed()


def test_a_lost_commit_notes_each_image_once(app: Flask, client: FlaskClient, cut_commit: Any) -> None:
    post(client, BATCH, 3, batch_size=2)
    with app.app_context():
        claimed = hands.claim()
        cuts = cut_commit(after=True)
        hands.settle(claimed, with_tensor)
    assert cuts
    assert items(app) == 3
    with app.app_context():
        rows = transactions.read(lambda session: session.scalars(select(Image)).all())
    assert all(row.results and "data" not in row.results["tensor"]["result"] for row in rows)
