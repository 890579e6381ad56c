"""Processors run by real workers: results, crashes, files kept and read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image as Picture
from sqlalchemy import select

from app.domain import jobs, transactions
from app.domain.jobs import NewImage, NewJob
from app.models import Image, JobSource
from demo.host import Host
from testbed.processes import Process, is_running, wait_for
from tests.integration.hands import add_stores, expect_books_balanced, submit, visit

SETTLED_SECONDS = 90
ODD_WORKER = "tests.odd.worker"
QUICK = {"DECODE_TIMEOUT_SECONDS": "1", "DECODE_MAX_MEMORY_MB": "600"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Grey ones, a black one, and one whose pixels are cut off."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        Picture.new("L", (64, 48), 90 + number).save(folder / f"grey{number}.png")
    Picture.new("L", (64, 48), 0).save(folder / "black.png")
    Picture.new("L", (64, 48), 1).save(folder / "one.png")
    Picture.effect_noise((64, 48), 50).save(folder / "whole.png")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:1500])
    (folder / "page.png").write_text("<html>")
    return folder


def settled(client: FlaskClient, job_id: int) -> list[dict[str, Any]]:
    address = f"/api/jobs/{job_id}"
    wait_for(lambda: client.get(address).json["status"] != "ongoing", SETTLED_SECONDS, what=f"the end of job {job_id}")
    return client.get(f"{address}/images?per_page=1000").json["results"]


def test_job_gets_the_results_of_the_processors_it_names(
    app: Flask, client: FlaskClient, start_worker: Callable[..., Process], pictures: Path
) -> None:
    add_stores(app)
    start_worker()
    names = ["Average Pixel Value", "info", "perimeter"]
    with Host(pictures) as host:
        urls = [f"{host.url}/{name}" for name in ("grey0.png", "cut.png", "page.png", "grey1.png")]
        images = settled(client, submit(client, visit(images=urls), processors=names))
    assert [image["error_code"] for image in images] == [None, "broken_pixels", "not_an_image", None]
    assert ["results" in image for image in images] == [True, False, False, True]
    assert set(images[0]["results"]) == set(names)
    assert images[0]["results"]["info"]["result"]["image_dimension"] == [64, 48]
    assert 0 <= images[0]["results"]["perimeter"].pop("seconds") < 10
    assert images[0]["results"]["perimeter"] == {
        "version": "1",
        "result": {"width": 64, "height": 48, "perimeter": 224, "format": "PNG"},
    }
    assert images[3]["results"]["Average Pixel Value"]["result"] == 91
    assert images[0]["perimeter"] == 224
    expect_books_balanced(app)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_crash_hang_and_hunger_are_results_and_the_neighbours_lose_nothing(
    app: Flask, client: FlaskClient, odd: None, start_worker: Callable[..., Process], pictures: Path
) -> None:
    add_stores(app)
    worker = start_worker(ODD_WORKER, **QUICK)
    with Host(pictures) as host:
        urls = [f"{host.url}/grey{number % 5}.png?{number}" for number in range(30)]
        urls[7], urls[19] = f"{host.url}/black.png", f"{host.url}/black.png"
        ids = [submit(client, visit(images=urls), processors=[name]) for name in ("model", "eat")]
        hanging = submit(client, visit(images=[*urls[:8], f"{host.url}/one.png"]), processors=["hang"])
        beside = submit(client, visit(images=urls))
        assert all(image["state"] == "done" for image in settled(client, beside))
        for job_id in ids[:1]:
            images = settled(client, job_id)
            assert [image["seq"] for image in images if image["error_code"] == "decoder_crashed"] == [7, 19]
            assert sum(image["state"] == "done" for image in images) == 28
            assert {image["attempts"] for image in images} == {1}
        eaten = [image["results"]["eat"].get("error", {}).get("code") for image in settled(client, ids[1])]
        assert [seq for seq, code in enumerate(eaten) if code] == [7, 19] and eaten[7] == "out_of_memory"
        codes = [image["error_code"] for image in settled(client, hanging)]
        assert codes == [None] * 7 + ["decoder_timeout"] * 2
    assert worker.is_alive and "Traceback" not in worker.text
    expect_books_balanced(app)


def test_images_are_kept_where_the_job_asks_for_it_and_read_again_from_there(
    app: Flask, client: FlaskClient, start_worker: Callable[..., Process], pictures: Path
) -> None:
    add_stores(app)
    start_worker()
    with Host(pictures) as host:
        urls = [f"{host.url}/{name}" for name in ("grey0.png", "page.png", "grey1.png")]
        kept = submit(client, visit(images=urls), keep_images=True, processors=["exif"])
        images = settled(client, kept)
    assert [image["state"] for image in images] == ["done", "failed", "done"]
    body = (pictures / "grey0.png").read_bytes()
    assert images[0]["sha256"] == hashlib.sha256(body).hexdigest() and "sha256" not in images[1]
    with app.app_context():
        query = select(Image.storage_key, Image.sha256).where(Image.job_id == kept).order_by(Image.seq)
        stored = transactions.read(lambda session: session.execute(query).all())
        storage = app.extensions["storage"]
        assert storage.read(stored[0].storage_key) == body and stored[1].storage_key is None
        assert stored[0].storage_key.startswith("images/") and stored[0].storage_key.endswith(".png")
        again = [NewImage(storage_key=row.storage_key, sha256=row.sha256) for row in stored if row.storage_key]
        gone = NewImage(storage_key="images/00/00000000000000000000000000000000.png")
        other = NewImage(storage_key=stored[0].storage_key, sha256="0" * 64)
        new = NewJob(JobSource.IMAGES, images=[*again, gone, other], processors=["Average Pixel Value"])
        job_id = jobs.create(new).job_id
    images = settled(client, job_id)
    assert [image["error_code"] for image in images] == [None, None, "file_missing", "file_damaged"]
    assert [image["results"]["Average Pixel Value"]["result"] for image in images[:2]] == [90, 91]
    expect_books_balanced(app)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_file_that_cannot_be_kept_is_tried_again_and_never_a_success(
    app: Flask, client: FlaskClient, start_worker: Callable[..., Process], pictures: Path, tmp_path: Path
) -> None:
    add_stores(app)
    (tmp_path / "full").write_text("a file where a folder should be")
    start_worker(STORAGE_URL=(tmp_path / "full").as_uri(), RETRY_ATTEMPTS="2")
    with Host(pictures) as host:
        urls = [f"{host.url}/grey0.png"]
        [image] = settled(client, submit(client, visit(images=urls), keep_images=True))
        [plain] = settled(client, submit(client, visit(images=urls)))
    assert (image["state"], image["error_code"], image["attempts"]) == ("failed", "storage_error", 2)
    assert plain["state"] == "done"
    expect_books_balanced(app)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_children_die_with_a_worker_that_is_killed(
    app: Flask, client: FlaskClient, odd: None, start_worker: Callable[..., Process], pictures: Path
) -> None:
    add_stores(app)
    worker = start_worker(ODD_WORKER)
    with Host(pictures) as host:
        urls = [f"{host.url}/grey0.png?{number}" for number in range(20)]
        images = settled(client, submit(client, visit(images=urls), processors=["kill"]))
    pids = {image["results"]["kill"]["result"]["pid"] for image in images}
    assert all(map(is_running, pids)) and os.getpgid(min(pids)) != os.getpgid(worker.pid)
    os.kill(worker.pid, 9)
    wait_for(lambda: not any(map(is_running, pids)), 30, what="the children's end")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_small_job_passes_one_whose_processors_are_slow(
    app: Flask, client: FlaskClient, odd: None, start_worker: Callable[..., Process], pictures: Path
) -> None:
    add_stores(app)
    start_worker(ODD_WORKER, DECODE_PROCESSES="1", DECODE_TIMEOUT_SECONDS="1", SLOTS="40")
    with Host(pictures) as host:
        hanging = submit(client, visit(images=[f"{host.url}/black.png?{n}" for n in range(60)]), processors=["hang"])
        address = f"/api/jobs/{hanging}"
        wait_for(lambda: client.get(address).json["images"]["failed"] >= 1, SETTLED_SECONDS, what="the first timeout")
        quick = submit(client, visit(images=[f"{host.url}/grey0.png?{n}" for n in range(200)]))
        assert {image["state"] for image in settled(client, quick)} == {"done"}
        assert client.get(address).json["status"] == "ongoing"
        assert client.post(f"/api/jobs/{hanging}/cancel").status_code in (200, 202)
    expect_books_balanced(app)


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_long_results_are_written_however_many_come_at_once(
    app: Flask, client: FlaskClient, odd: None, start_worker: Callable[..., Process], pictures: Path
) -> None:
    """Together they are longer than any statement may be."""
    add_stores(app)
    worker = start_worker(ODD_WORKER, GPU_PAUSE_MIN_SECONDS="1", GPU_PAUSE_MAX_SECONDS="1", FLUSH_SECONDS="2")
    with Host(pictures) as host:
        urls = [f"{host.url}/grey0.png?{number}" for number in range(60)]
        images = settled(client, submit(client, visit(images=urls), processors=["talk"]))
    assert {len(image["results"]["talk"]["result"]["text"]) for image in images} == {400_000}
    assert "results kept" not in worker.text
    expect_books_balanced(app)
