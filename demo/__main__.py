"""``make demo``: set up, submit, watch, show, clean up. Everything it starts ends with it; nothing of it stays."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from demo import doors, jobs, photos, reports
from demo.host import Host
from demo.service import PROJECT, Service, ServiceError

STORES_FILE = PROJECT / "data" / "stores_sample.csv"
JOB_SECONDS = 90.0
LEAST_IMAGES = 500
INTERRUPTED = 130

NEXT = """
Where to look next:
  make run            the same service, with pages for people, at http://localhost:5000 until Ctrl-C
  /docs               there: every route, to be tried in the browser
  imagejobs --help    the command line: submit, status, images, visits (in .venv/bin)
  README.md           settings, your own MySQL and Redis, more workers and hosts
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description="Show the whole service at work.")
    parser.add_argument("--images", type=int, default=4000, help=f"at least {LEAST_IMAGES} (default: %(default)s)")
    images = max(parser.parse_args().images, LEAST_IMAGES)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 110
    # Whoever ends us has the service and the host ended in the same orderly way as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with tempfile.TemporaryDirectory(prefix="imagejobs-demo-", ignore_cleanup_errors=True) as folder:
            return _show(console, Path(folder), images)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return INTERRUPTED
    except ServiceError as error:
        console.print(f"The demo failed: {error}", style="red", markup=False, soft_wrap=True)
        return 1


def _show(console: Console, folder: Path, images: int) -> int:
    pictures = folder / "photos"
    pictures.mkdir()
    console.print(f"Drawing {photos.COUNT} sample photos ...")
    for _ in photos.write_all(pictures):
        pass
    console.print("Starting broker, web, workers and a local host of the photos ...")
    # The photos come from this machine, which the service refuses to fetch from unless told otherwise.
    settings = {"FETCH_ALLOWED_NETWORKS": "127.0.0.0/8"}
    with Host(pictures) as host, Service(folder, stores=STORES_FILE, settings=settings) as service:
        names, broken = [photo.name for photo in photos.plan()], list(photos.broken())
        submission = jobs.build(host.url, names, broken, images=images, stores=STORES_FILE)
        code = _run_job(console, service, submission)
        if code == 0:
            small = sorted((pictures / name for name in names), key=lambda photo: photo.stat().st_size)
            doors.show(console, service, small, host.url)
        console.print("Stopping everything ...")
    console.print(NEXT, markup=False)
    return code


def _run_job(console: Console, service: Service, submission: jobs.Submission) -> int:
    job_id = service.post("/api/submit/", submission.body)["job_id"]
    visits = submission.body["visits"]
    stores = len({visit["store_id"] for visit in visits})
    console.print(f"POST {service.url}/api/submit/  ->  job {job_id}: {submission.images} images of {stores} stores")
    try:
        status = reports.watch(
            console, lambda: service.get("/api/status", jobid=job_id), total=submission.images, seconds=JOB_SECONDS
        )
    except TimeoutError as error:
        raise ServiceError(f"{error}; the service's last words:\n{service.log_end()}") from error
    first, last = visits[0]["visit_time"], visits[-1]["visit_time"]
    reports.show_status(console, status)
    reports.show_visits(console, service.get("/api/visits", startdate=first, enddate=last)["results"])
    reports.show_rate(console, status)
    failed = {entry["store_id"] for entry in status.get("error", [])}
    if failed != submission.failing:
        console.print(f"Expected these stores to fail: {sorted(submission.failing)}", style="red")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
