"""POST /api/submit/, sentence by sentence of the contract."""

from __future__ import annotations

import json

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.models import Image, Visit
from tests.integration import hands


def rows(app: Flask, model: type) -> list:
    from app.domain import transactions
    from app.extensions import db

    with app.app_context():
        return transactions.read(lambda session: list(session.scalars(db.select(model))))


def test_the_example_of_the_contract_is_accepted(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    answer = client.post(
        "/api/submit/",
        json={
            "count": 2,
            "visits": [
                {
                    "store_id": "S00339218",
                    "image_url": ["https://host/2.jpg", "https://host/3.jpg"],
                    "visit_time": "2020-09-02T00:00:53Z",
                },
                {"store_id": "S01408764", "image_url": ["https://host/3.jpg"], "visit_time": "2020-09-02 00:00:56"},
            ],
        },
    )
    assert answer.status_code == 201
    assert list(answer.json) == ["job_id"]
    assert type(answer.json["job_id"]) is int
    assert answer.headers["Location"] == f"/api/status?jobid={answer.json['job_id']}"
    assert int(answer.headers["Retry-After"]) > 0
    status = client.get(answer.headers["Location"]).json
    assert status["status"] == "ongoing"
    assert status["images"] == {"total": 3, "open": 3, "done": 0, "failed": 0, "cancelled": 0}


@pytest.mark.parametrize("path", ["/api/submit", "/api/submit/"])
@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/json", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_json_is_read_whatever_its_content_type(client: FlaskClient, path: str, content_type: str | None) -> None:
    answer = client.post(path, data=json.dumps(hands.body()), content_type=content_type)
    assert answer.status_code == 201


def test_a_byte_order_mark_is_no_matter(client: FlaskClient) -> None:
    assert client.post("/api/submit/", data=b"\xef\xbb\xbf" + json.dumps(hands.body()).encode()).status_code == 201


def without(field: str) -> dict:
    visit = hands.visit()
    del visit[field]
    return visit


GOOD = hands.visit()
REFUSED = {
    "no count": ({"visits": [GOOD]}, "count: is missing"),
    "no visits": ({"count": 1}, "visits: is missing"),
    "count a string": ({"count": "1", "visits": [GOOD]}, "count: not a whole number"),
    "count a fraction": ({"count": 1.0, "visits": [GOOD]}, "count: not a whole number"),
    "count a boolean": ({"count": True, "visits": [GOOD]}, "count: not a whole number"),
    "count null": ({"count": None, "visits": [GOOD]}, "count: not a whole number"),
    "count too small": ({"count": 0, "visits": [GOOD]}, "count does not match"),
    "count too large": ({"count": 2, "visits": [GOOD]}, "count does not match"),
    "visits empty": ({"count": 0, "visits": []}, "visits: is empty"),
    "visits an object": ({"count": 1, "visits": {}}, "visits: not a list"),
    "visit a string": ({"count": 1, "visits": ["x"]}, "visits[0]: not a JSON object"),
    "no store": (hands.body(without("store_id")), "visits[0].store_id: is missing"),
    "store empty": (hands.body(hands.visit("  ")), "visits[0].store_id: is empty"),
    "store a number": (hands.body(hands.visit() | {"store_id": 5}), "visits[0].store_id: not a string"),
    "store too long": (hands.body(hands.visit("S" * 65)), "visits[0].store_id: "),
    "store with NUL": (hands.body(hands.visit("S\0")), "visits[0].store_id: holds a control character"),
    "no images": (hands.body(without("image_url")), "visits[0].image_url: is missing"),
    "images empty": (hands.body(GOOD, hands.visit(images=[])), "visits[1].image_url: is empty"),
    "images a string": (hands.body(hands.visit() | {"image_url": "https://h/1"}), "visits[0].image_url: not a list"),
    "no time": (hands.body(without("visit_time")), "visits[0].visit_time: is missing"),
    "time null": (hands.body(hands.visit(time=None)), "visits[0].visit_time: "),
    "time a boolean": (hands.body(hands.visit(time=True)), "visits[0].visit_time: unreadable time"),
    "time unreadable": (hands.body(hands.visit(time="yesterday")), "visits[0].visit_time: unreadable time 'yesterday'"),
    "time huge": (hands.body(hands.visit(time=10**30)), "visits[0].visit_time: unreadable time"),
    "priority too large": (hands.body(priority=10), "priority: "),
    "priority a string": (hands.body(priority="high"), "priority: not a whole number"),
    "metadata a list": (hands.body(metadata=[1]), "metadata: not a JSON object"),
    "metadata large": (hands.body(metadata={"a": "é" * 9000}), "metadata: longer than 16384 bytes"),
    "metadata with NUL": (hands.body(metadata={"a": ["\0"]}), "metadata: holds a NUL character"),
    "processors": (hands.body(processors=["perimeter", "sharpen"]), "processors: there is no 'sharpen'; known are "),
    "processors as text": (hands.body(processors="perimeter"), "processors: not a list"),
    "keep_images": (hands.body(keep_images="yes"), "keep_images: "),
    "callback_url": (hands.body(callback_url="ftp://host/"), "callback_url: not an http(s) URL"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_field_by_path_and_nothing_stored(app: Flask, client: FlaskClient, name: str) -> None:
    sent, sentence = REFUSED[name]
    answer = client.post("/api/submit/", json=sent)
    assert answer.status_code == 400
    assert list(answer.json) == ["error"]
    assert sentence in answer.json["error"]
    assert len(answer.json["error"]) < 1000
    assert client.get("/api/jobs").json["results"] == []
    assert rows(app, Image) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"count=1",
        b"\xff\xfe{}",
        b'{"count": 1, "visits": ' + b"[" * 100_000,
        b'{"count": 1, "visits": [{"store_id": "\\ud800"}]}',
        b'{"count": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_json_object_is_refused(client: FlaskClient, raw: bytes) -> None:
    answer = client.post("/api/submit/", data=raw)
    assert answer.status_code == 400
    assert answer.json["error"]


@pytest.mark.parametrize("metadata", ['{"a": NaN}', '{"a": 1e999}', '{"a":' * 40 + "1" + "}" * 40])
def test_metadata_that_the_database_could_not_store_is_refused(client: FlaskClient, metadata: str) -> None:
    raw = json.dumps(hands.body())[:-1] + f', "metadata": {metadata}}}'
    answer = client.post("/api/submit/", data=raw)
    assert answer.status_code == 400
    assert answer.json["error"].startswith("metadata: ")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "https:///path",
        "https:host/1.jpg",
        "//host/1.jpg",
        "host/1.jpg",
        "ftp://host/1.jpg",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
        " https://host/1.jpg",
        "https://ho st/1.jpg",
        "https://:80/1.jpg",
        "https://user@/1.jpg",
        "https://good@evil@host/1.jpg",
        "https://good\\@evil/1.jpg",
        "https://host/1.jpg\r\nX-Injected: 1",
        "https://host\0/1.jpg",
        "https://host/\0.jpg",
        "https://host/1.jpg\n",
        "https://host/" + "a" * 8192,
        "https://host/" + "é" * 4096,
        5,
        None,
    ],
)
def test_a_url_that_is_not_http_is_named_by_its_path(client: FlaskClient, url: object) -> None:
    answer = client.post("/api/submit/", json=hands.body(*[GOOD] * 3, hands.visit() | {"image_url": [url]}))
    assert answer.status_code == 400
    assert answer.json["error"].startswith("visits[3].image_url[0]: ")


def test_many_bad_fields_make_a_short_sentence(client: FlaskClient) -> None:
    answer = client.post("/api/submit/", json=hands.body(hands.visit(images=["x"] * 5000)))
    assert answer.status_code == 400
    assert len(answer.json["error"]) < 1000


URLS = [
    "https://host/2.jpg",
    "HTTP://HOST/2.JPG",
    "HttpS://host",
    "https://host?x=1",
    "https://host#part",
    "https://host/%e4%E4/a b/ü?X-Amz-Signature=a%2Fb+c=&&x=1;y",
    "https://user:secret@host:8443/1.jpg",
    "http://[::1]:80/1.jpg",
    "http://127.0.0.1/1.jpg",
    "https://bücher.example/1.jpg",
    "https://host/../a/./b//c",
    "https://host/" + "a" * (8192 - len("https://host/")),
    "https://host/" + "é" * 4000,
    "https://host/😀.jpg",
]


def test_urls_are_kept_byte_for_byte(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=URLS))
    assert [row["url"] for row in client.get(f"/api/jobs/{job}/images").json["results"]] == URLS


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2020-09-02T00:00:53Z", "2020-09-02T00:00:53Z"),
        ("2020-09-02T05:30:53+05:30", "2020-09-02T00:00:53Z"),
        ("2020-09-02 00:00:56", "2020-09-02T00:00:56Z"),
        ("2020-09-02 00:00:56.25", "2020-09-02T00:00:56.250Z"),
        ("2020-09-02 00:01", "2020-09-02T00:01:00Z"),
        ("2020-09-02", "2020-09-02T00:00:00Z"),
        ("1599004853000", "2020-09-02T00:00:53Z"),
        (1599004853000, "2020-09-02T00:00:53Z"),
        (1599004853123.456, "2020-09-02T00:00:53.123456Z"),
    ],
)
def test_times_are_read_and_kept_as_sent(app: Flask, client: FlaskClient, sent: object, shown: str) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit(time=sent))
    hands.work_off(app)
    answer = client.get("/api/visits?storeid=S00339218").json
    assert [entry["date"] for entry in answer["results"][0]["data"]] == [shown]
    assert [visit.visited_as_sent for visit in rows(app, Visit)] == [str(sent)]


def test_image_urls_is_read_as_image_url(app: Flask, client: FlaskClient) -> None:
    visit = without("image_url") | {"image_urls": ["https://host/1.jpg"]}
    assert client.post("/api/submit/", json=hands.body(visit)).status_code == 201


def test_unknown_fields_are_ignored_and_null_is_absent(client: FlaskClient) -> None:
    visit = hands.visit() | {"extra": [{}], "notes": None}
    sent = hands.body(visit, extra=1, processors=None, keep_images=None, callback_url=None, metadata=None)
    assert client.post("/api/submit/", json=sent).status_code == 201


def test_priority_and_metadata_are_echoed_with_the_job(app: Flask, client: FlaskClient) -> None:
    metadata = {"batch": "ü-17", "nested": {"list": [1, 2.5, None, True]}}
    job = hands.submit(client, priority=9, metadata=metadata)
    for path in (f"/api/status?jobid={job}", f"/api/jobs/{job}"):
        answer = client.get(path).json
        assert (answer["priority"], answer["metadata"]) == (9, metadata)
    other = client.get(f"/api/jobs/{hands.submit(client)}").json
    assert (other["priority"], other["metadata"]) == (5, None)


def test_more_images_than_a_job_may_have_are_413_and_nothing_stored(make_app) -> None:
    client = make_app(JOB_MAX_IMAGES=10).test_client()
    answer = client.post("/api/submit/", json=hands.body(hands.visit(images=6), hands.visit(images=5)))
    assert answer.status_code == 413
    assert "11 images" in answer.json["error"]
    assert client.get("/api/jobs").json["results"] == []
    assert hands.submit(client, hands.visit(images=10))


def test_more_bytes_than_a_body_may_have_are_413(make_app) -> None:
    client = make_app(BODY_MAX_BYTES=2000).test_client()
    answer = client.post("/api/submit/", data=b" " * 2001)
    assert answer.status_code == 413
    assert answer.json["error"]


def test_an_unknown_store_does_not_refuse_the_job(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit("S00339218", 3), hands.visit("NOWHERE", 2), hands.visit("S01408764", 1))
    status = client.get(f"/api/status?jobid={job}").json
    assert status["status"] == "ongoing"
    assert status["images"] == {"total": 6, "open": 4, "done": 0, "failed": 2, "cancelled": 0}
    images = client.get(f"/api/jobs/{job}/images?state=failed").json["results"]
    assert [(image["seq"], image["error_code"]) for image in images] == [(3, "unknown_store"), (4, "unknown_store")]
    hands.expect_books_balanced(app)
    assert hands.work_off(app) == 4
    hands.expect_books_balanced(app)
    assert client.get(f"/api/status?jobid={job}").json["error"] == [
        {"store_id": "NOWHERE", "error": "unknown store: not in the store master"}
    ]


def test_a_job_of_unknown_stores_only_is_finished_at_once(app: Flask, client: FlaskClient) -> None:
    job = hands.submit(client, hands.visit("NOWHERE", 30), hands.visit("ELSEWHERE", 2), hands.visit("NOWHERE", 1))
    status = client.get(f"/api/status?jobid={job}").json
    assert status["status"] == "failed"
    assert [entry["store_id"] for entry in status["error"]] == ["NOWHERE", "ELSEWHERE"]
    assert status["finished_at"]
    hands.expect_books_balanced(app)
    assert hands.work_off(app) == 0


def test_store_ids_compare_by_their_bytes(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    job = hands.submit(client, hands.visit("s00339218"), hands.visit(" S00339218 "), hands.visit("S0033921\uff18"))
    hands.work_off(app)
    errors = client.get(f"/api/status?jobid={job}").json["error"]
    assert [entry["store_id"] for entry in errors] == ["s00339218", "S0033921\uff18"]


def test_a_job_of_many_stores_and_images_is_stored_whole(app: Flask, client: FlaskClient) -> None:
    stores = {f"S{number:05}": ("1", "x") for number in range(0, 2200, 2)}
    hands.add_stores(app, stores)
    job = hands.submit(client, *[hands.visit(f"S{number:05}", 2) for number in range(2200)])
    status = client.get(f"/api/status?jobid={job}").json
    assert status["images"] == {"total": 4400, "open": 2200, "done": 0, "failed": 2200, "cancelled": 0}
    hands.expect_books_balanced(app)
    assert hands.work_off(app) == 2200
    hands.expect_books_balanced(app)
