"""``python -m bench.detector``: detections a second by a worker, against bare sessions of the same model.

A bare session is onnxruntime's, Pillow and numpy in a loop of ten lines. Both read the same JPEGs from a disk, in two
processes with one thread each, in batches of eight. The worker does all that a job needs besides: it claims, reads from
storage, checks, chooses among boxes, and writes results to the database. The model alone is a session that is given the
same tensors again and again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
from flask_migrate import upgrade
from PIL import Image
from sqlalchemy import select

from app import broker, create_app
from app.domain import jobs, transactions
from app.domain.jobs import NewImage, NewJob
from app.extensions import db, storage
from app.models import Job, JobSource, JobState
from app.processors import detector
from app.processors.detection.models import runtime
from app.storage import new_key
from bench import pictures
from config import Settings
from demo import photos
from testbed import processes
from testbed.processes import wait_for

PROCESSES = 2
BATCH = 8
DISTINCT = 40
SECONDS_AN_IMAGE = 1.0
WAYS = ("decoding", "alone")


@dataclass(frozen=True)
class Detected:
    """Images a second: bare sessions that decode, bare sessions alone, and a worker."""

    bare: float
    alone: float
    ours: float

    @property
    def ratio(self) -> float:
        return self.ours / self.bare

    def __str__(self) -> str:
        rates = f"bare {self.bare:.1f} images/s (the model alone {self.alone:.1f}), worker {self.ours:.1f} images/s"
        return f"{rates}: {self.ratio:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.detector", description="Detections a second.")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        _run_bare(given.way, given.folder, given.images)
    else:
        measure(given.images, given.rounds, lambda line: print(line, flush=True))
    return 0


def measure(images: int, rounds: int, tell: Callable[[str], None]) -> list[Detected]:
    """Each way ``rounds`` times, in turn."""
    found = []
    with tempfile.TemporaryDirectory(prefix="imagejobs-bench-") as temporary:
        folder = Path(temporary)
        bodies = _bodies(folder)
        with _service(folder / "service") as env:
            for number in range(1, rounds + 1):
                bare, alone = (_bare(way, folder, images) for way in WAYS)
                with processes.worker(env, folder / f"worker{number}.log"):
                    found.append(Detected(bare, alone, _ours(bodies, images)))
                tell(f"detector: {found[-1]}")
    return found


@contextmanager
def _service(folder: Path) -> Iterator[dict[str, str]]:
    """What a worker's environment must hold; this process is the service's web part."""
    env = {"DATA_DIR": str(folder), "STORAGE_URL": (folder / "files").as_uri(), "LOG_LEVEL": "WARNING"}
    env |= {"LANE_PROCESSES": str(PROCESSES), "DETECTOR_BATCH": str(BATCH)}
    folder.mkdir()
    app = create_app(Settings.from_env(env))
    with app.app_context(), broker.running(folder):
        upgrade()
        yield env
        db.engine.dispose()


def _bodies(folder: Path) -> list[bytes]:
    """Shelves of 1280 x 960 pixels and about 200 KB, as files too."""
    size, quality = pictures.WEIGHTS[0].size, pictures.WEIGHTS[0].quality
    for seed in range(DISTINCT):
        photos.draw(size, seed).save(folder / f"{seed}.jpg", quality=quality)
    return [(folder / f"{seed}.jpg").read_bytes() for seed in range(DISTINCT)]


def _bare(way: str, folder: Path, images: int) -> float:
    argv = [sys.executable, "-m", "bench.detector", "--way", way, "--folder", str(folder)]
    argv += ["--images", str(images // PROCESSES)]
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


def _run_bare(way: str, folder: Path, images: int) -> None:
    ort = runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(detector.SHIPPED), options)
    [asked] = session.get_inputs()
    paths = [folder / f"{number % DISTINCT}.jpg" for number in range(images)]
    ready = np.stack([_tensor(path) for path in paths[:BATCH]])
    session.run(None, {asked.name: ready})
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    for start in range(0, images, BATCH):
        batch = paths[start : start + BATCH]
        tensors = ready[: len(batch)] if way == "alone" else np.stack([_tensor(path) for path in batch])
        session.run(None, {asked.name: tensors})
    print(time.perf_counter() - started)


def _tensor(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        small = image.convert("RGB").resize((300, 300), Image.Resampling.BILINEAR)
    return (np.asarray(small, np.float32) / 127.5 - 1).transpose(2, 0, 1)


def _ours(bodies: list[bytes], images: int) -> float:
    _wait(_job(bodies[:BATCH], BATCH * 2 * PROCESSES), 120)
    job_id = _job(bodies, images)
    _wait(job_id, 60 + images * SECONDS_AN_IMAGE)
    job = transactions.read(lambda session: session.scalars(select(Job).where(Job.id == job_id)).one())
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
