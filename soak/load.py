"""Clients: threads that submit by several doors at a steady rate and read what became of it, all through nginx."""

from __future__ import annotations

import base64
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import requests

from soak.scene import PICTURES, Scene

PATIENCE_SECONDS = 120.0
IMAGES_A_JOB = 50
IMAGES_A_BATCH = 5
READERS = 2


class Load:
    """``rate`` is in images a second, over all doors."""

    def __init__(self, scene: Scene, rate: float) -> None:
        self._scene = scene
        self._rate = rate
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._picture = (scene.folder / "pictures" / "1.jpg").read_bytes()
        self.jobs: list[int] = []
        self.images = 0
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.longest_wait = 0.0

    def start(self) -> None:
        # Nine images of ten by URL, as stores send them; the rest by the other doors.
        doors: tuple[tuple[Callable[[requests.Session], int], float], ...] = (
            (self.submit_urls, 0.8 * self._rate / IMAGES_A_JOB),
            (self.submit_manifest, 0.1 * self._rate / IMAGES_A_JOB),
            (self.submit_batch, 0.1 * self._rate / IMAGES_A_BATCH),
        )
        for door, jobs_a_second in doors:
            self._threads.append(threading.Thread(target=self._submit_steadily, args=(door, jobs_a_second)))
        self._threads += [threading.Thread(target=self._read_steadily) for _ in range(READERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _submit_steadily(self, door: Callable[[requests.Session], int], jobs_a_second: float) -> None:
        with self._scene.session() as session:
            due = time.monotonic()
            while not self._stop.is_set():
                try:
                    job_id = door(session)
                except (requests.RequestException, RuntimeError) as error:
                    self.failures.append(f"{door.__name__}: {error}"[:300])
                else:
                    with self._lock:
                        self.jobs.append(job_id)
                due += 1 / jobs_a_second
                self._stop.wait(max(0.0, due - time.monotonic()))

    def _urls(self, count: int) -> list[str]:
        return [
            f"{self._scene.host.url}/{next(self._numbers) % PICTURES}.jpg?n={random.random()}" for _ in range(count)
        ]

    def submit_urls(self, session: requests.Session) -> int:
        visits = [
            {"store_id": store, "image_url": self._urls(IMAGES_A_JOB // 2), "visit_time": int(time.time() * 1000)}
            for store in ("S00339218", "S01408764")
        ]
        return self._post(session, "/api/submit/", IMAGES_A_JOB, json={"count": 2, "visits": visits})

    def submit_manifest(self, session: requests.Session) -> int:
        lines = ["id\turl", *(f"{number}\t{url}" for number, url in enumerate(self._urls(IMAGES_A_JOB)))]
        files = {"file": ("images.tsv", "\n".join(lines).encode())}
        return self._post(session, "/api/v1/images_info_async/", IMAGES_A_JOB, files=files)

    def submit_batch(self, session: requests.Session) -> int:
        image = {
            "file": base64.b64encode(self._picture).decode(),
            "timestamp": "2020-09-02T00:00:53Z",
            "store_name": "BHARAT STORE",
            "camera_id": "7",
            "barcode": "8901030865278",
        }
        return self._post(session, "/upload_image_batch", IMAGES_A_BATCH, json=[image] * IMAGES_A_BATCH)

    def _post(self, session: requests.Session, path: str, images: int, **body: Any) -> int:
        """As a good client does: again under the same Idempotency-Key until it is accepted. Returns the job."""
        headers = {"Idempotency-Key": f"soak-{next(self._numbers)}-{random.random()}"}
        begun = time.monotonic()
        while True:
            try:
                answer = session.post(f"{self._scene.front.url}{path}", headers=headers, timeout=30, **body)
                self._count(path, answer.status_code)
                if answer.ok:
                    with self._lock:
                        self.images += images
                        self.longest_wait = max(self.longest_wait, time.monotonic() - begun)
                    return int(answer.json()["job_id"])
                if answer.status_code not in (502, 503, 504):
                    raise RuntimeError(f"{answer.status_code} {answer.text}")
            except requests.ConnectionError:
                self._count(path, 0)
            if time.monotonic() - begun > PATIENCE_SECONDS:
                raise RuntimeError(f"not accepted within {PATIENCE_SECONDS:g} s")
            time.sleep(0.5)

    def _read_steadily(self) -> None:
        with self._scene.session() as session:
            for path in self._pages():
                if self._stop.wait(0.5):
                    return
                try:
                    answer = session.get(f"{self._scene.front.url}{path}", timeout=30)
                    self._count(path.split("?")[0], answer.status_code)
                    if not answer.ok and answer.status_code not in (502, 503, 504):
                        self.failures.append(f"{path}: {answer.status_code} {answer.text}"[:300])
                except requests.ConnectionError:
                    self._count(path.split("?")[0], 0)

    def _pages(self) -> Iterator[str]:
        while True:
            job = random.choice(self.jobs) if self.jobs else 0
            yield f"/api/status?jobid={job}" if job else "/live"
            yield "/api/visits?area=710006&per_page=100"
            yield f"/api/jobs/{job}/images?per_page=100" if job else "/health"
            yield f"/api/jobs/{job}/results.csv" if job else "/health"
            yield "/api/jobs"
            yield "/health"

    def _count(self, path: str, status: int) -> None:
        with self._lock:
            self.answers[f"{path if not path.startswith('/api/jobs/') else '/api/jobs/...'} {status or 'cut off'}"] += 1
