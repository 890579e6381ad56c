"""``python -m bench.detector``: detections a second by a worker, against bare sessions of the same model.

Both decode the same JPEGs from a disk in two processes with one thread each, in batches of eight. The worker does all
that a job needs besides: it claims, reads from storage, checks, and writes results to the database.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from subprocess import PIPE, Popen

from flask_migrate import upgrade
from sqlalchemy import select

from app import broker, create_app
from app.domain import jobs, transactions
from app.domain.jobs import NewImage, NewJob
from app.extensions import db, storage
from app.models import Job, JobSource, JobState
from app.processors import DecodeLimits, ImageFile, detector
from app.storage import new_key
from bench import pictures
from config import Settings
from demo import photos
from testbed import processes
from testbed.processes import wait_for

PROCESSES = 2
BATCH = 8
DISTINCT = 40
SECONDS_AN_IMAGE = 0.5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.detector", description="Detections a second.")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        _run_bare(given.bare, given.images)
        return 0
    with tempfile.TemporaryDirectory(prefix="imagejobs-bench-") as folder:
        bodies = _bodies(Path(folder))
        for number in range(given.rounds):
            bare = _bare(Path(folder), given.images)
            ours = _ours(Path(folder) / f"round{number}", bodies, given.images)
            print(f"bare {bare:.1f} images/s, worker {ours:.1f} images/s: {ours / bare:.2f}", flush=True)
    return 0


def _bodies(folder: Path) -> list[bytes]:
    """Shelves of 1280 x 960 pixels and about 200 KB, as files too."""
    size, quality = pictures.WEIGHTS[0].size, pictures.WEIGHTS[0].quality
    for seed in range(DISTINCT):
        photos.draw(size, seed).save(folder / f"{seed}.jpg", quality=quality)
    return [(folder / f"{seed}.jpg").read_bytes() for seed in range(DISTINCT)]


def _bare(folder: Path, images: int) -> float:
    argv = [sys.executable, "-m", "bench.detector", "--bare", str(folder), "--images", str(images // PROCESSES)]
    loops = [Popen(argv, stdin=PIPE, stdout=PIPE, text=True) for _ in range(PROCESSES)]
    for loop in loops:
        assert loop.stdout is not None
        loop.stdout.readline()
    for loop in loops:
        assert loop.stdin is not None
        loop.stdin.write("go\n")
        loop.stdin.flush()
    seconds = max(float(loop.communicate()[0]) for loop in loops)
    return images / seconds


def _run_bare(folder: Path, images: int) -> None:
    limits = DecodeLimits(("JPEG",), 100_000_000)
    paths = [folder / f"{number % DISTINCT}.jpg" for number in range(images)]
    detector.execute_batch([ImageFile(path.read_bytes(), limits) for path in paths[:BATCH]])
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    for start in range(0, images, BATCH):
        detector.execute_batch([ImageFile(path.read_bytes(), limits) for path in paths[start : start + BATCH]])
    print(time.perf_counter() - started)


def _ours(folder: Path, bodies: list[bytes], images: int) -> float:
    folder.mkdir()
    settings = Settings.from_env({}, DATA_DIR=folder, STORAGE_URL=(folder / "files").as_uri())
    app = create_app(settings)
    with app.app_context(), broker.running(folder):
        upgrade()
        warm = _job(bodies[:BATCH], BATCH * 4)
        env = {"DATA_DIR": str(folder), "STORAGE_URL": (folder / "files").as_uri(), "LOG_LEVEL": "WARNING"}
        with processes.worker(env, folder / "worker.log"):
            _wait(warm, 60)
            job_id = _job(bodies, images)
            _wait(job_id, images * SECONDS_AN_IMAGE)
        job = transactions.read(lambda session: session.scalars(select(Job).where(Job.id == job_id)).one())
        db.engine.dispose()
        assert job.images_done == images and job.finished_at and job.started_at
        return images / (job.finished_at - job.started_at).total_seconds()


def _job(bodies: list[bytes], images: int) -> int:
    found = []
    for number in range(images):
        key = new_key("images", ".jpg")
        storage.put(key, bodies[number % len(bodies)])
        found.append(NewImage(storage_key=key))
    return jobs.create(NewJob(JobSource.UPLOADS, images=found, processors=[detector.NAME])).job_id


def _wait(job_id: int, seconds: float) -> None:
    state = select(Job.state).where(Job.id == job_id)

    def is_over() -> bool:
        return transactions.read(lambda session: session.scalars(state).one()) is not JobState.ONGOING

    wait_for(is_over, seconds, what="the job", every=0.2)


if __name__ == "__main__":
    sys.exit(main())
