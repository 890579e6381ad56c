"""Jobs that want the detector, or another processor with a LANE, neither wait for the others nor hold them up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import select

from app import queues
from app.domain import claims, jobs, recover, transactions
from app.domain.claims import Only
from app.domain.jobs import NewImage, NewJob
from app.domain.works import Room
from app.errors import SettingError
from app.models import Chunk, Job, JobSource, JobState
from demo.host import Host
from testbed.processes import Process, wait_for
from testbed.scripted import ScriptedServer
from tests.integration.hands import add_stores, expect_books_balanced, submit, visit
from tests.integration.test_workers import good, status, wait_until_settled

StartWorker = Callable[..., Process]
SMALL = {"SLOTS": "20", "CHUNK_SIZE": "20", "DECODE_PROCESSES": "1", "DECODE_TIMEOUT_SECONDS": "100"}


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """While this file is there, ``shut.png`` beside it waits; ``open.png`` never does."""
    gate = tmp_path / "gate"
    gate.touch()
    named = PngInfo()
    named.add_text("gate", str(gate))
    Picture.new("L", (64, 48), 90).save(tmp_path / "shut.png", pnginfo=named)
    Picture.new("L", (64, 48), 90).save(tmp_path / "open.png")
    return gate


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
@pytest.mark.parametrize(("held_up", "passing"), [("wait_aside", "wait"), ("wait", "wait_aside")])
@pytest.mark.usefixtures("odd")
def test_jobs_of_one_lane_pass_those_of_another(
    app: Flask, client: FlaskClient, start_worker: StartWorker, gate: Path, held_up: str, passing: str
) -> None:
    """However many there are before them, and in a worker that is for all of them."""
    add_stores(app)
    with Host(gate.parent) as host:
        shut = visit(images=[f"{host.url}/shut.png"] * 40)
        waiting = [submit(client, shut, processors=[held_up]) for _ in range(4)]
        start_worker("tests.odd.worker", **SMALL)
        wait_for(lambda: any(claimed(app, job_id) for job_id in waiting), 60, what="the first claim")
        other = submit(client, visit(images=[f"{host.url}/open.png"] * 40), processors=[passing])
        assert wait_until_settled(client, other)["images"]["done"] == 40
        assert all(status(client, job_id)["images"]["done"] == 0 for job_id in waiting)
        gate.unlink()
        for job_id in waiting:
            assert wait_until_settled(client, job_id)["images"]["done"] == 40
    expect_books_balanced(app)


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
@pytest.mark.usefixtures("odd")
def test_a_lane_is_worked_on_while_slow_hosts_hold_all_slots(
    app: Flask, client: FlaskClient, start_worker: StartWorker, gate: Path
) -> None:
    add_stores(app)
    with ScriptedServer("127.0.0.2") as slow, Host(gate.parent) as host:
        plain = submit(client, visit(images=[slow.url(f"/hang?n={n}") for n in range(300)]))
        start_worker("tests.odd.worker", **SMALL)
        wait_for(lambda: slow.open_now > 0, 60, what="a host that hangs")
        aside = submit(client, visit(images=[f"{host.url}/open.png"] * 40), processors=["wait_aside"])
        assert wait_until_settled(client, aside)["images"]["done"] == 40
        assert status(client, plain)["images"]["open"] == 300


def test_workers_of_one_lane_leave_the_others_alone(
    app: Flask, client: FlaskClient, host: Host, start_worker: StartWorker
) -> None:
    """Whatever door a job came in by."""
    add_stores(app)
    detected = submit(client, visit(images=good(host, 20)), processors=["info", "detector"])
    with app.app_context():
        images = tuple(NewImage(url=url) for url in good(host, 20))
        other = jobs.create(NewJob(JobSource.MANIFESTS, images=images, processors=["detector"])).job_id
    plain = submit(client, visit(images=good(host, 20)))
    start_worker(WORKER_LANES="plain")
    wait_until_settled(client, plain)
    assert not claimed(app, detected)
    assert not claimed(app, other)
    late = submit(client, visit(images=good(host, 20)))
    start_worker(WORKER_LANES="detector", GPU_PAUSE_MIN_SECONDS="30", GPU_PAUSE_MAX_SECONDS="30")
    for job_id in (detected, other, late):
        assert wait_until_settled(client, job_id)["images"]["done"] == 20
    expect_books_balanced(app)


def claimed(app: Flask, job_id: int) -> int:
    """How often chunks of it were claimed."""
    query = select(Chunk.claim).where(Chunk.job_id == job_id)
    with app.app_context():
        return sum(transactions.read(lambda session: session.scalars(query).all()))


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_bells_reach_the_workers_of_each_door_and_lane(app: Flask, client: FlaskClient, host: Host) -> None:
    """Also those that the recover loop rings, for bells that were lost."""
    add_stores(app)
    with queues._connection().channel() as channel:

        def unheard(name: str) -> int:
            return int(channel.queue_declare(queue=name, durable=True).message_count)

        def purge() -> None:
            for name in queues.OF_WORK:
                unheard(name)
                channel.queue_purge(name)

        purge()
        submit(client, visit(images=good(host, 20)), processors=["detector"])
        rung = {name for name in queues.OF_WORK if unheard(name)}
        assert rung == {"images", "images.urls", "images-detector"}
        purge()
        with app.app_context():
            assert recover.recover()
        assert all(unheard(name) for name in queues.OF_WORK)
        purge()


def test_a_new_job_has_its_turn_within_its_lane(app: Flask, client: FlaskClient) -> None:
    """Jobs that nobody works on, since no worker is for their lane, must not send every new one to the front."""
    add_stores(app)
    submit(client, visit(images=20), processors=["detector"])
    plain = Only(lanes=("plain",))
    first = submit(client, visit(images=40))
    with app.app_context():
        claims.claim("w1", Room(20, 20), lease_seconds=60, only=plain)
        turn = select(Job.turn).where(Job.id == first)
        moved = transactions.read(lambda session: session.scalar(turn))
        second = submit(client, visit(images=20))
        of_second = select(Job.turn).where(Job.id == second)
        assert transactions.read(lambda session: session.scalar(of_second)) == moved
        given = [claims.claim("w1", Room(20, 20), lease_seconds=60, only=plain) for _ in range(2)]
        assert [{each.key.job_id for each in claimed} for claimed in given] == [{first}, {second}]
        ongoing = select(Job.state).where(Job.id == second)
        assert transactions.read(lambda session: session.scalar(ongoing)) is JobState.ONGOING


def test_a_lane_that_there_is_not_stops_the_start(make_app: Callable[..., Flask]) -> None:
    with pytest.raises(SettingError, match=r"WORKER_LANES: there is no lane gates; known are .*detector, plain"):
        make_app(WORKER_LANES="gates")
