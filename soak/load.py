"""Clients: threads that submit by every door at a steady rate and read what became of it, all through nginx."""

from __future__ import annotations

import base64
import io
import itertools
import random
import re
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import requests

from soak.scene import PICTURES, Scene

PATIENCE_SECONDS = 120.0
IMAGES_A_JOB = 50
IMAGES_A_BATCH = 5
PHOTOS_AN_UPLOAD = 4
READERS = 2
# Answers of a service that is, for the moment, not whole.
AWAY = (502, 503, 504)
WAITED = "/api/v1/images_info/"


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
        # Most images by URL, as stores send them, the rest by the other doors. Photos cost a hundred times as much: the
        # detector looks at each.
        doors: tuple[tuple[Callable[[requests.Session], int], float], ...] = (
            (self.submit_urls, 0.8 * self._rate / IMAGES_A_JOB),
            (self.submit_manifest, 0.06 * self._rate / IMAGES_A_JOB),
            (self.submit_tensors, 0.02 * self._rate / IMAGES_A_JOB),
            (self.wait_for_manifest, 0.02 * self._rate / IMAGES_A_JOB),
            (self.submit_batch, 0.1 * self._rate / IMAGES_A_BATCH),
            (self.submit_single, 0.001 * self._rate),
            (self.hand_in_photos, 0.001 * self._rate / PHOTOS_AN_UPLOAD),
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

    @property
    def broken_off(self) -> int:
        """How many answers that wait for their images did."""
        return self.answers[f"{WAITED} cut off"]

    def _submit_steadily(self, door: Callable[[requests.Session], int], jobs_a_second: float) -> None:
        with self._scene.session() as session:
            due = time.monotonic()
            while not self._stop.is_set():
                try:
                    job_id = door(session)
                except (requests.RequestException, RuntimeError) as error:
                    self.failures.append(f"{door.__name__}: {error}"[:300])
                else:
                    if job_id:
                        with self._lock:
                            self.jobs.append(job_id)
                # What was missed is not made up for in a burst.
                due = max(due + 1 / jobs_a_second, time.monotonic() - 10)
                self._stop.wait(max(0.0, due - time.monotonic()))

    def _urls(self, count: int) -> list[str]:
        return [
            f"{self._scene.host.url}/{next(self._numbers) % PICTURES}.jpg?n={random.random()}" for _ in range(count)
        ]

    def submit_urls(self, session: requests.Session, count: int = IMAGES_A_JOB) -> int:
        visits = [
            {"store_id": store, "image_url": self._urls(count // 2), "visit_time": int(time.time() * 1000)}
            for store in ("S00339218", "S01408764")
        ]
        return self._post(session, "/api/submit/", count, json={"count": 2, "visits": visits})

    def submit_manifest(self, session: requests.Session) -> int:
        return self._post(session, "/api/v1/images_info_async/", IMAGES_A_JOB, files=self._manifest())

    def submit_tensors(self, session: requests.Session) -> int:
        fields = {"batch_size": "10", "encoding": "base64"}
        return self._post(session, "/api/v1/batch_predict/", IMAGES_A_JOB, files=self._manifest(), data=fields)

    def wait_for_manifest(self, session: requests.Session) -> int:
        """Its answer comes when the images are done, and has all of them. Where it breaks off its job is cancelled, so
        that one tries again under a key of its own."""
        begun = time.monotonic()
        while True:
            answer = self._try(session, "POST", WAITED, files=self._manifest())
            if answer is not None:
                with self._lock:
                    self.images += IMAGES_A_JOB
                return _job_of(answer)
            _give_up_after(PATIENCE_SECONDS, begun)
            time.sleep(0.5)

    def _manifest(self) -> dict[str, tuple[str, bytes]]:
        lines = ["id\turl", *(f"{number}\t{url}" for number, url in enumerate(self._urls(IMAGES_A_JOB)))]
        return {"file": ("images.tsv", "\n".join(lines).encode())}

    def submit_batch(self, session: requests.Session) -> int:
        image = {
            "file": base64.b64encode(self._picture).decode(),
            "timestamp": "2020-09-02T00:00:53Z",
            "store_name": "BHARAT STORE",
            "camera_id": "7",
            "barcode": "8901030865278",
        }
        return self._post(session, "/upload_image_batch", IMAGES_A_BATCH, json=[image] * IMAGES_A_BATCH)

    def submit_single(self, session: requests.Session) -> int:
        """The web server itself has every processor look at it, in children of its own."""
        file = {"image": ("shelf.jpg", self._picture + str(next(self._numbers)).encode())}
        return self._post(session, "/images", 1, files=file)

    def hand_in_photos(self, _session: requests.Session) -> int:
        """As people do on the upload page; returns once the zip with the results has been fetched and is whole.

        The job's number, or 0 where the zip was there before it was asked for.
        """
        begun = time.monotonic()
        with self._scene.session() as session:
            while not (results := self._try_to_hand_in(session)):
                _give_up_after(PATIENCE_SECONDS, begun)
        job_id = 0
        while True:
            answer = self._try(session, "GET", results, counted_as="/results/...")
            if answer is not None and answer.status_code == 200:
                break
            if answer is not None and answer.status_code == 202:
                job_id = answer.json()["job_id"] or job_id
            _give_up_after(PATIENCE_SECONDS + 60, begun)
            time.sleep(0.5)
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            photos = [name for name in archive.namelist() if name.endswith(".jpg")]
        if len(photos) != PHOTOS_AN_UPLOAD:
            raise RuntimeError(f"{results} has {archive.namelist()}")
        with self._lock:
            self.images += PHOTOS_AN_UPLOAD
        return int(job_id)

    def _try_to_hand_in(self, session: requests.Session) -> str:
        """The path of the results; empty where it has to begin again, with photos of a new submission."""
        session.cookies.clear()
        files = {f"file[{number}]": (f"{number}.jpg", self._picture) for number in range(PHOTOS_AN_UPLOAD)}
        answer = self._try(session, "POST", "/upload", files=files)
        while answer is not None and answer.ok:
            answer = self._try(session, "POST", "/process_redis", data={"email": ""})
            if answer is not None and answer.ok:
                return str(answer.json()["results"]).removeprefix(self._scene.front.url)
        time.sleep(0.5)
        return ""

    def _post(self, session: requests.Session, path: str, images: int, **body: Any) -> int:
        """As a good client does: again under the same Idempotency-Key until it is accepted. Returns the job."""
        headers = {"Idempotency-Key": f"soak-{next(self._numbers)}-{random.random()}"}
        begun = time.monotonic()
        while True:
            answer = self._try(session, "POST", path, headers=headers, **body)
            if answer is not None and answer.ok:
                with self._lock:
                    self.images += images
                    self.longest_wait = max(self.longest_wait, time.monotonic() - begun)
                return _job_of(answer)
            _give_up_after(PATIENCE_SECONDS, begun)
            time.sleep(0.5)

    def _try(
        self, session: requests.Session, method: str, path: str, *, counted_as: str = "", **options: Any
    ) -> requests.Response | None:
        """None where it is to be tried again: no answer, one that broke off, or one that says so."""
        try:
            answer = session.request(method, f"{self._scene.front.url}{path}", timeout=60, **options)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            self._count(counted_as or path, 0)
            return None
        self._count(counted_as or path, answer.status_code)
        if answer.status_code in AWAY:
            return None
        if not answer.ok:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")
        return answer

    def _read_steadily(self) -> None:
        with self._scene.session() as session:
            for path in self._pages():
                if self._stop.wait(0.5):
                    return
                is_of_a_job = path.startswith("/api/jobs/")
                try:
                    self._try(session, "GET", path, counted_as="/api/jobs/..." if is_of_a_job else path.split("?")[0])
                except (requests.RequestException, RuntimeError) as error:
                    self.failures.append(str(error)[:300])

    def _pages(self) -> Iterator[str]:
        while True:
            job = random.choice(self.jobs) if self.jobs else 0
            yield f"/api/status?jobid={job}" if job else "/live"
            yield "/api/visits?area=710006&per_page=100"
            yield f"/api/jobs/{job}/images?per_page=100" if job else "/health"
            yield f"/api/jobs/{job}/results.csv" if job else "/health"
            yield "/api/jobs"
            yield "/images?page=1&count=20"
            yield "/image_batches?page=1&per_page=100"
            yield "/metrics"
            yield "/dashboard"
            yield "/health"

    def _count(self, path: str, status: int) -> None:
        with self._lock:
            self.answers[f"{path} {status or 'cut off'}"] += 1


def _job_of(answer: requests.Response) -> int:
    """By whichever door; 0 where that does not say. Raises RuntimeError where an answer that was waited for lacks
    something."""
    body = answer.json()
    if "job_id" in body:
        return int(body["job_id"])
    if found := re.search(r"jobid=(\d+)", answer.headers.get("Location", "")):
        wrong = [entry for entry in body.values() if "error" in entry]
        if wrong or len(body) != IMAGES_A_JOB:
            raise RuntimeError(f"{len(body)} images were answered, {wrong[:3]}")
        return int(found[1])
    if body["result"]["errors"]:
        raise RuntimeError(f"an image could not be worked on: {body['result']['errors']}")
    return 0


def _give_up_after(seconds: float, begun: float) -> None:
    if time.monotonic() - begun > seconds:
        raise RuntimeError(f"not done within {seconds:g} s")
