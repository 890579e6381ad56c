"""Manifests in a bucket: found below one prefix, and nowhere else."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import obstore
import pytest
from flask import Flask
from flask.testing import FlaskClient
from obstore.store import S3Store

from config import Settings
from testbed.s3 import ACCESS_KEY, REGION, S3, SECRET_KEY
from tests.integration.test_manifests import NO_FILE, OUTSIDE_NAMES, tsv

ASYNC = "/api/v1/images_info_async/"
FOLDER = "manifests/of shop"

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def bucket(s3: S3) -> S3Store:
    store = S3Store(
        s3.bucket,
        endpoint=s3.endpoint,
        region=REGION,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        client_options={"allow_http": True},
    )
    obstore.put(store, f"{FOLDER}/images.tsv", tsv("http://h/0", "http://h/1"))
    obstore.put(store, f"{FOLDER}/2026/März 1.tsv.gz", gzip.compress(tsv("http://h/0")))
    obstore.put(store, f"{FOLDER}/large.tsv", tsv(*(f"http://h/{number}" for number in range(50_000))))
    obstore.put(store, "manifests/secret.tsv", tsv("http://h/0"))
    obstore.put(store, "secret.tsv", tsv("http://h/0"))
    return store


@pytest.fixture
def client(make_app: Callable[..., Flask], s3: S3, bucket: S3Store) -> FlaskClient:
    account = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    return make_app(MANIFEST_DIR=s3.url(FOLDER.replace(" ", "%20")), **account).test_client()


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("images.tsv", 2),
        (f"s3://files/{FOLDER}/images.tsv", 2),
        ("2026/März 1.tsv.gz", 1),
        ("large.tsv", 50_000),
    ],
)
def test_what_lies_below_the_prefix_is_found(client: FlaskClient, name: str, rows: int) -> None:
    answer = client.post(ASYNC, json={"filepath": name})
    assert answer.status_code == 200, answer.text
    assert client.get(f"/api/jobs/{answer.json['job_id']}").json["images"]["total"] == rows


def test_what_lies_elsewhere_is_as_what_is_not_there(client: FlaskClient) -> None:
    own = ["missing.tsv", "2026", "2026/", "/images.tsv", "//images.tsv", "./images.tsv", "2026/../images.tsv"]
    own += ["s3://files/secret.tsv", "s3://files/manifests/secret.tsv", "s3://other/images.tsv", f"{FOLDER}/images.tsv"]
    for name in [*own, *OUTSIDE_NAMES]:
        answer = client.post(ASYNC, json={"filepath": name})
        assert (answer.status_code, answer.json) == NO_FILE, name
    assert client.get("/api/jobs").json["results"] == []


def test_a_bucket_that_does_not_answer_is_503(make_app: Callable[..., Flask], s3: S3) -> None:
    account = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": "wrong"}
    client = make_app(MANIFEST_DIR=s3.url("lists"), **account).test_client()
    answer = client.post(ASYNC, json={"filepath": "images.tsv"})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "wrong" not in answer.text


def test_a_setting_that_names_no_bucket_stops_the_start(backend: object) -> None:
    with pytest.raises(Exception, match="MANIFEST_DIR"):
        Settings.from_env({"MANIFEST_DIR": "s3:///lists"})
