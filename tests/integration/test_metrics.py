"""GET /metrics: what it says agrees with what was done, whichever process is asked, and survives what is away."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from app.domain import deliveries, figures, keys
from app.domain.access import Scope
from app.domain.keys import NewKey
from app.models import DeliveryState
from config import Settings
from testbed import processes
from testbed.processes import wait_for
from tests.integration import hands
from tests.integration.receivers import subscribe


def metrics(text: str) -> dict[str, float]:
    """By name and labels, as they stand there."""
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:{.*})?) (\S+)$", text, re.MULTILINE)}


def ask(client: FlaskClient) -> dict[str, float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return metrics(answer.text)


def settled(found: dict[str, float]) -> dict[str, float]:
    states = ("done", "failed", "cancelled")
    return {state: found[f'imagejobs_images_settled_total{{state="{state}"}}'] for state in states}


def test_it_is_in_the_format_of_prometheus(client: FlaskClient) -> None:
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=")
    found = metrics(answer.text)
    assert found["imagejobs_database_up"] == found["imagejobs_broker_up"] == 1
    assert found['imagejobs_queue_messages{queue="images"}'] >= 0
    assert found["imagejobs_data_dir_free_bytes"] > 0
    lines = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(found)


def test_totals_follow_a_job_from_submission_to_its_end(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    assert ask(client)['imagejobs_jobs_created_total{source="urls"}'] == 0
    hands.submit(client, hands.visit(images=30), hands.visit("NOWHERE", images=2))
    found = ask(client)
    assert found['imagejobs_jobs_created_total{source="urls"}'] == 1
    assert found["imagejobs_jobs_ongoing"] == 1
    assert found["imagejobs_images_open"] == 30
    assert found['imagejobs_chunks{state="due"}'] == 3
    assert found['imagejobs_image_errors_total{code="unknown_store"}'] == 2
    assert settled(found) == {"done": 0, "failed": 2, "cancelled": 0}

    with app.app_context():
        [claim] = hands.claim(images=10)
        assert ask(client)['imagejobs_chunks{state="leased"}'] == 1
        hands.settle([claim], hands.failed)
    hands.work_off(app)
    found = ask(client)
    assert found["imagejobs_images_open"] == found["imagejobs_jobs_ongoing"] == 0
    assert found['imagejobs_chunks{state="due"}'] == found["imagejobs_oldest_due_seconds"] == 0
    assert settled(found) == {"done": 20, "failed": 12, "cancelled": 0}
    assert found['imagejobs_image_errors_total{code="http_404"}'] == 10
    assert found['imagejobs_jobs_finished_total{state="failed"}'] == 1


def test_totals_never_fall(app: Flask, client: FlaskClient) -> None:
    """A retry takes failures from the job's counters, and a job that is deleted takes all of them."""
    hands.add_stores(app)
    job = hands.submit(client, hands.visit(images=10))
    hands.work_off(app, hands.failed)
    before = settled(ask(client))
    assert client.post(f"/api/jobs/{job}/retry", json={}).status_code == 202
    assert settled(ask(client)) == before
    hands.work_off(app)
    assert settled(ask(client)) == {"done": 10, "failed": 10, "cancelled": 0}
    job = hands.submit(client, hands.visit(images=7))
    client.post(f"/api/jobs/{job}/cancel")
    assert settled(ask(client)) == {"done": 10, "failed": 10, "cancelled": 7}
    assert ask(client)['imagejobs_jobs_finished_total{state="cancelled"}'] == 1


def test_attempts_that_are_repeated_are_no_failures(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit(images=3))
    with app.app_context():
        hands.settle(hands.claim(), lambda work: hands.again(work, 3600))
    found = ask(client)
    assert found['imagejobs_image_retries_total{code="timeout"}'] == 3
    assert settled(found) == {"done": 0, "failed": 0, "cancelled": 0}
    assert found['imagejobs_chunks{state="leased"}'] == 1
    hands.make_due(app)
    assert ask(client)['imagejobs_chunks{state="late"}'] == 1


@pytest.mark.parametrize("after", [False, True])
def test_a_commit_whose_answer_is_lost_is_counted_once(
    app: Flask, client: FlaskClient, cut_commit: Callable[..., list[str]], after: bool
) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit(images=10))
    with app.app_context():
        claimed = hands.claim()
        cuts = cut_commit(after=after)
        hands.settle(claimed)
        hands.settle(claimed)  # and a repeated delivery
        assert cuts
        totals = figures.read().totals
        assert totals["images_settled"]["done"] == 10
        assert totals["jobs_finished"]["completed"] == 1


def test_writers_at_once_lose_no_count(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    for _ in range(6):
        hands.submit(client, hands.visit(images=40))
    threads = [threading.Thread(target=hands.work_off, args=(app,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hands.work_off(app)
    assert settled(ask(client)) == {"done": 240, "failed": 0, "cancelled": 0}


def test_requests_are_counted_by_rule_and_never_by_address(client: FlaskClient) -> None:
    def count(rule: str, status: int, method: str = "GET") -> float:
        name = f'imagejobs_http_requests_total{{method="{method}",rule="{rule}",status="{status}"}}'
        return ask(client).get(name, 0)

    before, unknown, odd = count("/api/jobs/<int:job_id>", 404), count("none", 404), count("none", 405, "other")
    for job in range(5):
        client.get(f"/api/jobs/{job + 1_000_000}")
        client.get(f"/wp-admin/{job}.php")
        client.open("/live", method=f"ODD{job}")
    assert count("/api/jobs/<int:job_id>", 404) == before + 5
    assert count("none", 404) == unknown + 5
    assert count("none", 405, "other") == odd + 5
    text = client.get("/metrics").text
    assert "wp-admin" not in text and "1000000" not in text and "ODD" not in text
    bucket = 'imagejobs_http_request_seconds_bucket{le="+Inf",method="GET",rule="/api/jobs/<int:job_id>"}'
    assert metrics(text)[bucket] >= before + 5


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_token_is_demanded_where_one_is_set(make_app: Callable[..., Flask]) -> None:
    client = make_app(METRICS_TOKEN="s3cret").test_client()
    for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
        answer = client.get("/metrics", headers=sent)
        assert answer.status_code == 401
        assert set(answer.json) == {"error"}
        assert "imagejobs_" not in answer.text
    assert client.get("/metrics", headers={"Authorization": "Bearer s3cret"}).status_code == 200


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_with_keys_a_token_does_and_an_admins_key(make_app: Callable[..., Flask]) -> None:
    app = make_app(AUTH="keys", METRICS_TOKEN="s3cret")
    with app.app_context():
        made = {scope: keys.create(NewKey(scopes=frozenset({scope}))).text for scope in Scope}
    client = app.test_client()
    expected = {made[scope]: 200 if scope is Scope.ADMIN else 401 for scope in Scope} | {"s3cret": 200, "wrong": 401}
    for sent, status in expected.items():
        assert client.get("/metrics", headers={"Authorization": f"Bearer {sent}"}).status_code == status
    assert client.get("/metrics").status_code == 401


def test_it_answers_while_database_and_broker_are_away(tmp_path: Path) -> None:
    away = Settings.from_env(
        {},
        AUTH="keys",
        METRICS_TOKEN="s3cret",
        DATABASE_URL="mysql+pymysql://a:b@127.0.0.1:1/c",
        REDIS_URL="redis://127.0.0.1:1/0",
        DATA_DIR=tmp_path,
    )
    found = metrics(create_app(away).test_client().get("/metrics", headers={"Authorization": "Bearer s3cret"}).text)
    assert found["imagejobs_database_up"] == found["imagejobs_broker_up"] == 0
    assert "imagejobs_images_open" not in found  # unknown, which is not 0


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_processes_of_one_gunicorn_count_together_and_workers_are_known(
    app: Flask, worker_env: dict[str, str], start_worker: Callable[..., Any], tmp_path: Path
) -> None:
    start_worker(SLOTS="123")
    port = processes.free_port()
    argv = ["-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "--bind", f"127.0.0.1:{port}", "--workers", "3"]
    with processes.Process([sys.executable, *argv], env=worker_env, log=tmp_path / "web.log"):
        wait_for(lambda: processes.is_listening(port), 90)
        url = f"http://127.0.0.1:{port}"
        for _ in range(40):
            requests.get(f"{url}/live", timeout=60)
        name = 'imagejobs_http_requests_total{method="GET",rule="/live",status="200"}'
        for _ in range(5):
            found = metrics(requests.get(f"{url}/metrics", timeout=60).text)
            assert found[name] == 40

        def is_known() -> bool:
            found = metrics(requests.get(f"{url}/metrics", timeout=60).text)
            return (found['imagejobs_workers{state="alive"}'], found["imagejobs_worker_slots"]) == (1, 123)

        wait_for(is_known, 90)


def test_webhooks_are_counted_once_however_often_their_result_is_written(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    subscribe(client, events=["job.completed"])
    hands.submit(client)
    hands.work_off(app)
    assert ask(client)["imagejobs_deliveries_due"] == 1
    with app.app_context():
        taken = deliveries.claim("t" * 32, most=9, full_hosts=[], room_of=lambda _host: 9, lease_seconds=60)
        results = [deliveries.Sent(due, DeliveryState.DELIVERED, []) for due in taken]
        for _ in range(2):
            deliveries.settle(results)
    found = ask(client)
    assert found['imagejobs_webhook_tries_total{state="delivered"}'] == 1
    assert found["imagejobs_deliveries_due"] == found["imagejobs_delivery_oldest_due_seconds"] == 0
