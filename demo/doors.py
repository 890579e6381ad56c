"""The other doors, each with a few of the photos: cameras, a list of URLs, a folder of people's, a single image."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from demo.service import Service, ServiceError

IN_A_BATCH = 12
IN_A_LIST = 20
IN_A_FOLDER = 4
WAIT_SECONDS = 60.0
POLL_SECONDS = 0.1
MOST_SHOWN = 72  # characters of a result: a line of a usual terminal beside the processors' names


def show(console: Console, service: Service, photos: Sequence[Path], host: str) -> None:
    """Raises ServiceError where an answer is not what it should be."""
    console.print("\nThe other doors, the same kind of job behind each:")
    _show_batch(console, service, photos[:IN_A_BATCH])
    _show_manifest(console, service, [f"{host}/{photo.name}" for photo in photos[:IN_A_LIST]], f"{host}/deleted.jpg")
    _show_folder(console, service, photos[:IN_A_FOLDER])
    _show_single(console, service, photos[0])


def _show_batch(console: Console, service: Service, photos: Sequence[Path]) -> None:
    items = [_item(photo, f"entrance-{number % 3 + 1}") for number, photo in enumerate(photos)]
    job = service.post("/upload_image_batch", items)["job_id"]
    _expect(_ended(service, job)["status"] == "completed", "the batch of the cameras did not complete")
    found = service.get("/image_batches", page=1, per_page=10, camera_id="entrance-2")[0]["images"]
    console.print(f"  POST /upload_image_batch  ->  job {job}: {len(photos)} photos of cameras, all of them read")
    console.print(f"  GET /image_batches?camera_id=entrance-2  ->  {len(found)} of them")


def _item(photo: Path, camera: str) -> dict[str, str]:
    body = base64.b64encode(photo.read_bytes()).decode()
    known = {"timestamp": "2026-03-02 09:00:00", "store_name": "BHARAT STORE", "barcode": "4006381333931"}
    return {"file": body, "camera_id": camera, **known}


def _show_manifest(console: Console, service: Service, urls: Sequence[str], missing: str) -> None:
    rows = [f"{number}\t{url}" for number, url in enumerate([*urls, missing])]
    file = {"file": ("images.tsv", "\n".join(["id\turl", *rows]))}
    entries = service.call("POST", "/api/v1/images_info/", files=file).json()
    last = entries[str(len(urls))]
    _expect(len(entries) == len(rows) and "error" in last, "the manifest's answer lacks something")
    info = entries["0"]["image_info"]
    size = f"{info['image_dimension'][0]}x{info['image_dimension'][1]} {info['image_format']}"
    console.print(f"  POST /api/v1/images_info/  ->  {len(rows)} rows: the first is {size}, the last says:")
    console.print(f"    {last['error']}")


def _show_folder(console: Console, service: Service, photos: Sequence[Path]) -> None:
    files = [(f"file[{number}]", (photo.name, photo.read_bytes())) for number, photo in enumerate(photos)]
    service.call("POST", "/upload", files=files)
    address = service.call("POST", "/process_redis", data={"email": ""}).json()["results"]
    results = address.removeprefix(service.url)
    deadline = time.monotonic() + WAIT_SECONDS
    while (answer := service.call("GET", results)).status_code != 200:
        _expect(time.monotonic() < deadline, f"the photos of the folder were not ready in {WAIT_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
    console.print(f"  POST /upload, POST /process_redis  ->  {len(photos)} photos of a folder, as a zip of ", end="")
    console.print(f"{len(answer.content) / 1000:,.0f} kB at\n    {results}")


def _show_single(console: Console, service: Service, photo: Path) -> None:
    answer = service.call("POST", "/images", files={"image": (photo.name, photo.read_bytes())}).json()
    found = answer["result"]
    _expect(not found["errors"], f"a processor failed: {found['errors']}")
    title = f"  POST /images  ->  {photo.name}, and what each processor says of it:"
    table = Table("Processor", "Result", title=title, title_justify="left")
    for name, result in found.items():
        if name != "errors":
            text = Text(json.dumps(result, ensure_ascii=False))
            text.truncate(MOST_SHOWN, overflow="ellipsis")
            table.add_row(name, text)
    console.print(table)


def _ended(service: Service, job: int) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_SECONDS
    while (status := service.get("/api/status", jobid=job))["status"] == "ongoing":
        _expect(time.monotonic() < deadline, f"job {job} did not end in {WAIT_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
    return dict(status)


def _expect(is_fine: bool, otherwise: str) -> None:
    if not is_fine:
        raise ServiceError(otherwise)
