"""``make screenshots``: the pages, light and dark, with sample data, as PNG in docs/images."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flask import Flask
from flask_migrate import upgrade
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import testbed.browser
from app import broker, create_app
from app.domain import overviews, stores
from app.domain.outcomes import Outcome
from app.domain.works import Work
from app.models import ImageState
from config import Settings
from demo import photos
from demo.host import Host
from testbed import processes
from tests.integration import hands

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "docs" / "images"
STORES_FILE = PROJECT / "data" / "stores_sample.csv"
DAYS = 15
VISITS_A_DAY = 120
IMAGES_A_VISIT = 400  # of the job that is under way
REASONS = [
    ("http_404", "the server answered 404 Not Found"),
    ("http_404", "the server answered 404 Not Found"),
    ("timeout", "no answer within 30 s"),
    ("not_an_image", "what came is no image of an allowed format"),
]
COLORS = 256


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="imagejobs-shots-") as name, _service(Path(name)) as (url, app, env):
        rng = random.Random(11)
        with app.app_context():
            ids = [row.id for row in _load_stores()]
        _history(app, ids, rng)
        with Host(_pictures(Path(name))) as host, sync_playwright() as playwright:
            job_id = _live_job(app, ids, host.url)
            with processes.worker(env, Path(name) / "worker.log", name="one"):
                processes.wait_for(lambda: _rate(app), 60, what="a worker's rate")
                browser = testbed.browser.launch(playwright)
                for scheme in ("light", "dark"):
                    page = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme=scheme)  # type: ignore[arg-type]
                    _shoot(page, url, scheme, job_id)
                phone = browser.new_page(viewport={"width": 390, "height": 780})
                phone.goto(f"{url}/dashboard/")
                phone.wait_for_selector("#period .chart")
                _save(phone, "overview-phone")
                browser.close()


def _rate(app: Flask) -> float:
    with app.app_context():
        return overviews.now().rate


PAGES = {
    "job": ("/dashboard/jobs/{job}", "tbody"),
    "overview": ("/dashboard/", "#period .chart"),
    "visits": ("/dashboard/visits", "tbody"),
    "visits-by-area": ("/dashboard/visits?group=area&order=perimeter", "tbody"),
    "jobs": ("/dashboard/jobs", "tbody"),
    "job-failed": ("/dashboard/jobs/3?state=failed", "tbody"),
    "job-stores": ("/dashboard/jobs/3/stores", "tbody"),
    "image": ("/dashboard/jobs/3/images/0", "main"),
    "retry": ("/dashboard/jobs/3/retry", "main"),
    "stores": ("/dashboard/stores", "tbody"),
    "store": ("/dashboard/stores/S00339218", "main"),
    "load": ("/dashboard/stores/load", "main"),
    "submit": ("/dashboard/submit", "main"),
    "control": ("/dashboard/control", "#findings table"),
    "error": ("/dashboard/jobs/999", "main"),
}
# What is kept in docs/images; the others are for whoever works on a page: python -m tests.browser.screenshots all
KEPT = ("job", "overview", "visits", "store", "control")


def _shoot(page: Page, url: str, scheme: str, job_id: int) -> None:
    for name, (path, ready) in PAGES.items():
        if name in KEPT or "all" in sys.argv:
            page.goto(url + path.format(job=job_id))
            page.wait_for_selector(ready)
            _save(page, f"{name}-{scheme}")


def _save(page: Page, name: str) -> None:
    """A picture of few colours, which is a third of the size and looks the same."""
    file = FOLDER / f"{name}.png"
    page.screenshot(path=file)
    with Image.open(file) as shot:
        shot.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(file, optimize=True)


@contextmanager
def _service(folder: Path) -> Iterator[tuple[str, Flask, dict[str, str]]]:
    with broker.running(folder):
        env = {
            "DATABASE_URL": f"sqlite:///{folder}/shots.db",
            "REDIS_URL": broker.celery_url("", folder),
            "DATA_DIR": str(folder),
            "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
            "LOG_LEVEL": "ERROR",
        }
        app = create_app(Settings.from_env(env))
        with app.app_context():
            upgrade()
        port = processes.free_port()
        with processes.web(env, folder / "web.log", port=port):
            yield f"http://127.0.0.1:{port}", app, env


def _load_stores() -> list[stores.KnownStore]:
    with STORES_FILE.open("rb") as file:
        stores.load(file)
    return stores.find(stores.StoreFilter(), cursor=None, per_page=400)[0]


def _history(app: Flask, ids: list[str], rng: random.Random) -> None:
    """A job a day of settled visits; some stores are never seen, some pictures fail."""

    def outcome(work: Work) -> Outcome:
        if rng.random() < 0.025:
            return hands.failed(work, *rng.choice(REASONS))
        width, height = rng.choice([(1600, 1200), (1280, 960), (960, 1280), (800, 600)])
        seconds = rng.uniform(0.1, 0.5)
        return Outcome(
            work, ImageState.DONE, seconds=seconds, width=width, height=height,
            perimeter=2 * (width + height), format="JPEG", bytes=rng.randrange(80_000, 400_000),
        )  # fmt: skip

    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    seen = ids[: int(len(ids) * 0.93)]
    for ago in reversed(range(1, DAYS)):
        day = today - timedelta(days=ago)
        busy = 0.45 if day.weekday() >= 5 else rng.uniform(0.85, 1.15)
        visits = [
            hands.visit(
                rng.choice(seen),
                [f"https://photos.example/{day:%m%d}/{number}-{n}.jpg" for n in range(rng.randrange(2, 7))],
                (day + timedelta(seconds=rng.randrange(8 * 3600, 20 * 3600))).isoformat().replace("+00:00", "Z"),
            )
            for number in range(int(VISITS_A_DAY * busy))
        ]
        visits.append(hands.visit(ids[0], 3, (day + timedelta(hours=9)).isoformat().replace("+00:00", "Z")))
        hands.submit(app.test_client(), *visits)
        hands.work_off(app, outcome)


def _pictures(folder: Path) -> Path:
    pictures = folder / "photos"
    pictures.mkdir()
    for _ in photos.write_all(pictures):
        pass
    return pictures


def _live_job(app: Flask, ids: list[str], url: str) -> int:
    names = [photo.name for photo in photos.plan()]
    now = datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")

    def images(first: int) -> list[str]:
        numbers = range(first, first + IMAGES_A_VISIT)
        return [f"{url}/{names[n % len(names)] if n % 80 else 'gone.jpg'}?{n}" for n in numbers]

    visits = [hands.visit(store, images(IMAGES_A_VISIT * number), now) for number, store in enumerate(ids[:130])]
    return hands.submit(app.test_client(), *visits)


if __name__ == "__main__":
    main()
