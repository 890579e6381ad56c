"""An image whose header kills the process that opens it: one worker dies of it, once, and nobody else's image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image as Picture
from PIL import PngImagePlugin
from sqlalchemy import func, select

from app.domain import claims, transactions
from app.domain.works import Room
from app.models import Chunk
from demo.host import Host
from testbed.processes import PROJECT, Process, wait_for
from tests.integration import hands

SETTLED_SECONDS = 90


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Picture.new("L", (64, 48), 90).save(folder / "good.png")
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "POISON")
    Picture.new("L", (64, 48), 90).save(folder / "poison.png", pnginfo=note)
    return folder


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_header_that_kills_the_worker_kills_one_worker_once(
    app: Flask, client: FlaskClient, start_worker: Callable[..., Process], recover: Process, pictures: Path
) -> None:
    hands.add_stores(app)
    poisonous = {"PYTHONPATH": str(PROJECT / "tests/odd/poison"), "SLOTS": "60", "CHUNK_SIZE": "20"}
    with Host(pictures) as host:
        urls = [f"{host.url}/good.png?{number}" for number in range(400)]
        urls[130] = f"{host.url}/poison.png"
        job_id = hands.submit(client, hands.visit(images=urls))
        workers = [start_worker(**poisonous)]

        def is_settled() -> bool:
            if not workers[-1].is_alive:
                workers.append(start_worker(**poisonous))
            return client.get(f"/api/jobs/{job_id}").json["status"] != "ongoing"

        wait_for(is_settled, SETTLED_SECONDS, what="the end of the job")
    images = client.get(f"/api/jobs/{job_id}/images?per_page=1000").json["results"]
    assert [(image["seq"], image["error_code"]) for image in images if image["state"] != "done"] == [
        (130, "decoder_crashed")
    ]
    assert len(workers) == 2 and workers[0].wait() == -11 and workers[1].is_alive
    with app.app_context():
        assert transactions.read(lambda session: session.scalar(select(func.max(Chunk.unreturned)))) == 0
    hands.expect_books_balanced(app)


def test_only_chunks_that_were_not_given_back_are_suspect(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit(images=30))
    room = Room(20, 20)
    with app.app_context():
        lost = claims.claim("dies", room, lease_seconds=-1) or []
        claimed = (claims.claim("w", room, lease_seconds=60) or []) + (claims.claim("w", room, lease_seconds=60) or [])
        suspects = {each.key for each in claimed if any(work.is_suspect for work in each.work)}
        assert suspects == {each.key for each in lost} and len(suspects) == 2 and len(claimed) == 3
        assert all(work.is_apart and work.is_slow for each in claimed for work in each.work if work.is_suspect)
        hands.settle(claimed, lambda work: hands.again(work, 0))
        again = claims.claim("w", Room(30, 30), lease_seconds=60) or []
        assert len(again) == 3 and not any(work.is_suspect for each in again for work in each.work)
