"""``python -m bench.reports``: how long a report takes, and what memory it adds to the process that builds it.

Photos of 640 x 480 with five boxes each, by default 500 and 5,000; each report is built in a process of its own, on
SQLite and a folder, by what a worker's builder calls.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from flask import Flask
from flask_migrate import upgrade

from app import create_app
from app.domain import jobs, reports, transactions
from app.domain.jobs import NewImage, NewJob
from app.extensions import db, storage
from app.models import ImageState, JobSource, ReportState
from app.processors import detector
from app.storage import new_key
from config import Settings
from demo import photos

SIZE = (640, 480)
DISTINCT = 20
BOXES = 5
LABELS = ("Box", "Bottle", "Person", "Chair", "Книга")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.reports", description="Memory and time of reports.")
    parser.add_argument("--images", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--build", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        _build(given.build)
        return
    for images in given.images:
        with tempfile.TemporaryDirectory(prefix="imagejobs-bench-") as folder:
            env = {"DATA_DIR": folder, "STORAGE_URL": Path(folder, "files").as_uri(), "LOG_LEVEL": "WARNING"}
            job_id = _prepare(create_app(Settings.from_env(env)), images)
            argv = [sys.executable, "-m", "bench.reports", "--build", str(job_id)]
            subprocess.run(argv, env=os.environ | env, check=True)


def _prepare(app: Flask, images: int) -> int:
    """A job that has ended, with what was found on each of its photos."""
    with app.app_context():
        upgrade()
        keys = []
        for seed in range(DISTINCT):
            file = Path(app.config["SETTINGS"].DATA_DIR) / "drawn.jpg"
            photos.draw(SIZE, seed).save(file, quality=85)
            keys.append(new_key("images", ".jpg"))
            storage.put(keys[-1], file.read_bytes())
        new = [_image(keys[number % DISTINCT], number) for number in range(images)]
        job_id = jobs.create(NewJob(JobSource.UPLOADS, images=new, processors=[detector.NAME])).job_id
        db.engine.dispose()
        return job_id


def _image(key: str, number: int) -> NewImage:
    found = [
        {"label": LABELS[each], "score": 0.5 + each / 20, "box": [40.0 + 110 * each, 60.0 + number % 200, 90.0, 120.0]}
        for each in range(BOXES)
    ]
    result = {"model": "none", "threshold": 0.4, "width": SIZE[0], "height": SIZE[1], "detections": found}
    return NewImage(
        storage_key=key,
        client_ref=f"photo {number}.jpg",
        content_type="image/jpeg",
        state=ImageState.DONE,
        width=SIZE[0],
        height=SIZE[1],
        perimeter=2 * sum(SIZE),
        format="JPEG",
        results={detector.NAME: {"version": detector.VERSION, "result": result}},
    )


def _build(job_id: int) -> None:
    app = create_app(Settings.from_env())
    with app.app_context():
        transactions.run(lambda session: reports.plan(session, job_id, f"job-{job_id}"))
        reports.wake()
        images = reports.standing(job_id).images
        before, started = _memory("VmRSS"), time.monotonic()
        assert reports.build_next(lambda: False)
        report = reports.get(job_id)
        assert report.state is ReportState.DONE and report.zip_bytes, report.error_message
        print(
            f"{images:,} photos: {time.monotonic() - started:.0f} s, a zip of {report.zip_bytes / 1e6:.0f} MB, "
            f"the process had {before:.0f} MB and at most {_memory('VmHWM'):.0f}",
            flush=True,
        )
        db.engine.dispose()


def _memory(what: str) -> float:
    """Of this process, in megabytes, as the kernel counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1024


if __name__ == "__main__":
    main()
