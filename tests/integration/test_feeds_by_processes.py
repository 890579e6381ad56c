"""The lists of Redis fed by real processes, which are killed, while Redis is killed too: every id arrives."""

from __future__ import annotations

import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask

from demo.host import Host
from testbed import processes
from testbed.processes import Process, wait_for
from testbed.redis import Redis
from tests.integration import hands

IMAGES = 250
SECONDS = 60


@pytest.fixture
def results_redis() -> Iterator[Redis]:
    """A Redis of our own, which forgets everything when it ends."""
    with Redis() as server:
        yield server


class Consumer(threading.Thread):
    """Takes entries off both lists, slowly enough that some always lie there; knows every one that it was given."""

    def __init__(self, server: Redis) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.images: Counter[str] = Counter()
        self.tensors: Counter[str] = Counter()
        self.is_stopped = threading.Event()

    def run(self) -> None:
        while not self.is_stopped.wait(0.005):
            try:
                with self._server.client() as client:
                    while found := client.blpop(["queue:images", "queue:batch"], 1):
                        self._take(*found)
                        if self.is_stopped.wait(0.002):
                            return
            except redis.RedisError:
                time.sleep(0.05)

    def _take(self, name: str, text: str) -> None:
        entry = json.loads(text)
        if name == "queue:images":
            self.images.update(list(entry))
        else:
            self.tensors.update(entry["ids"])
            self.tensors.update(failed["id"] for failed in entry["failed"])


# The SQL of it is tried on both by test_feeds.
@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_every_id_arrives_though_feeder_and_redis_are_killed(
    make_app: Callable[..., Flask],
    worker_env: dict[str, str],
    start_worker: Callable[..., Process],
    results_redis: Redis,
    host: Host,
    tmp_path: Path,
) -> None:
    client = make_app(RESULTS_REDIS_URL=results_redis.url).test_client()
    consumer = Consumer(results_redis)
    consumer.start()
    env = worker_env | {"RESULTS_REDIS_URL": results_redis.url}
    start_worker()
    recover = processes.recover(env, tmp_path / "recover.log")
    try:
        urls = [f"{host.url}/{'nothing' if number % 50 == 7 else 'good1'}.jpg?n={number}" for number in range(IMAGES)]
        manifest = b"id\turl\n" + "".join(f"{number}\t{url}\n" for number, url in enumerate(urls)).encode()
        for path, fields in (("images_info_async", {}), ("batch_predict", {"batch_size": 7})):
            data: dict[str, Any] = {"file": (io.BytesIO(manifest), "images.tsv"), **fields}
            assert client.post(f"/api/v1/{path}/", data=data).status_code == 200
        for blow in range(3):
            seen = consumer.images.total() + consumer.tensors.total()
            wait_for(lambda seen=seen: consumer.images.total() + consumer.tensors.total() > seen + 40, SECONDS)
            recover.kill()
            if blow == 1:
                results_redis.kill()
                recover = processes.recover(env, tmp_path / "recover.log")
                results_redis.start()
            else:
                recover = processes.recover(env, tmp_path / "recover.log")
        ids = {str(number) for number in range(IMAGES)}
        wait_for(lambda: ids <= set(consumer.images) and ids <= set(consumer.tensors), SECONDS, what="all ids")
        assert set(consumer.images) == set(consumer.tensors) == ids
    finally:
        consumer.is_stopped.set()
        recover.kill()
        consumer.join(5)
    hands.expect_books_balanced(make_app())
