"""``make hostile``: thousands of hostile images through a real worker, and what became of them.

Served from memory on 127.0.0.1, fetched by a worker process, settled in SQLite. Fails where the worker dies, an image
is not settled in time or ends without a code of the table, or memory grows past its bound.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade

from app import broker, create_app
from app.errors import DecodeError
from app.fetching.codes import CODES as FETCH_CODES
from app.processors import DecodeLimits, ImageFile, perimeter
from app.processors.codes import CODES as DECODE_CODES
from app.processors.image_file import HURRIED_HEADER_CPU_SECONDS
from config import IMAGE_FORMATS, Settings
from demo.host import Host
from testbed import processes
from testbed.processes import Process, wait_for
from tests.hostile import made, mutants, sources
from tests.integration import hands

BATCH = 50
MOST_SECONDS = 10.0  # for a whole batch, hence for each of its images
MOST_DECODING_SECONDS = 300.0  # ... where pixels are decoded too, of 100 million each if need be
MOST_HEADER_SECONDS = 0.2  # of the processor, on the thread that drives all downloads
MOST_MEGABYTES = 700
# Beside the default ones: all that IMAGE_FORMATS may name.
MORE_FORMATS = "AVIF,ICO,JPEG2000,PPM,TGA"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make hostile", description=__doc__.partition("\n")[0])
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processors", nargs="*", default=[], metavar="NAME", help="run these too, in children")
    options = parser.parse_args()
    found = sources.find()
    images = found | {f"made/{kind}": made.image(kind) for kind in made.FORMATS}
    bred = mutants.breed(list(images.values()), options.mutants, options.seed)
    images |= {f"mutant/{options.seed}/{number}": body for number, body in enumerate(bred)}
    for table in (made.CLAIMS, made.ODDITIES, made.BOMBS):
        images |= {f"made/{name}": make() for name, (make, _code) in table.items()}
    images = {name: body for name, body in images.items() if body}  # an empty body is the downloader's to refuse
    size = sum(map(len, images.values())) / 2**20
    print(f"{len(images)} images, {size:.0f} MB: {len(found)} of Pillow and PngSuite, {options.mutants} mutants\n")
    measure(images, IMAGE_FORMATS)
    measure(images, f"{IMAGE_FORMATS},{MORE_FORMATS}")
    with tempfile.TemporaryDirectory(prefix="imagejobs-hostile-") as folder, running(Path(folder), images) as run:
        run_through(*run, list(images), options.processors)


def measure(images: Mapping[str, bytes], formats: str) -> None:
    """Read every header here and print the slowest; they are read on a thread that has other things to do."""
    limits = DecodeLimits(tuple(formats.split(",")), 100_000_000, HURRIED_HEADER_CPU_SECONDS)
    took = {}
    codes: Counter[str] = Counter()
    for name, body in images.items():
        start = time.thread_time()
        try:
            codes[perimeter.execute(ImageFile(body, limits))["format"]] += 1
        except DecodeError as error:
            codes[error.code] += 1
        took[name] = time.thread_time() - start
    slowest = sorted(took, key=took.__getitem__, reverse=True)
    print(f"Headers, with {formats}: {dict(codes.most_common())}")
    for name in slowest[:8]:
        print(f"  {1000 * took[name]:7.1f} ms  {len(images[name]) / 1024:8.0f} KB  {name}")
    natural = [name for name in slowest if name.startswith("pillow")]
    print(f"  of Pillow's own the slowest takes {1000 * took[natural[0]]:.1f} ms: {natural[0]}\n", flush=True)
    if took[slowest[0]] > MOST_HEADER_SECONDS:
        raise SystemExit(f"a header took longer than {MOST_HEADER_SECONDS} s")


@contextmanager
def running(folder: Path, images: Mapping[str, bytes]) -> Iterator[tuple[Flask, Host, Process]]:
    """The service in this process, a host of the images, and a worker process."""
    served = folder / "images"
    served.mkdir()
    for number, body in enumerate(images.values()):
        (served / f"{number}.jpg").write_bytes(body)
    env = {
        "DATABASE_URL": f"sqlite:///{folder}/test.db",
        "DATA_DIR": str(folder),
        "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
        "GPU_PAUSE_MIN_SECONDS": "0",
        "GPU_PAUSE_MAX_SECONDS": "0",
        "LOG_LEVEL": "WARNING",
    }
    app = create_app(Settings.from_env(env))
    with app.app_context():
        upgrade()
    hands.add_stores(app)
    with broker.running(folder), Host(served) as host, processes.worker(env, folder / "worker.log") as worker:
        yield app, host, worker


def run_through(app: Flask, host: Host, worker: Process, names: list[str], processors: list[str]) -> None:
    """Submit the images batch by batch, and print what became of them."""
    most_seconds = MOST_DECODING_SECONDS if processors else MOST_SECONDS
    client = app.test_client()
    settle(client, host, range(1))  # until the worker is up
    before = peak_megabytes(worker.pid)
    codes: Counter[str] = Counter()
    longest = 0.0
    for start in range(0, len(names), BATCH):
        began = time.monotonic()
        images = settle(client, host, range(start, min(start + BATCH, len(names))), processors)
        longest = max(longest, time.monotonic() - began)
        entries = [entry for image in images for entry in image.get("results", {}).items()]
        codes.update(f"of {name}: {entry['error']['code']}" for name, entry in entries if "error" in entry)
        codes.update(image["error_code"] or f"done, {image['format']}" for image in images)
    peak = peak_megabytes(worker.pid)
    for code, count in codes.most_common():
        print(f"{count:6}  {code}")
    print(f"\nslowest batch of {BATCH}: {longest:.1f} s; the worker's memory {before} -> {peak} MB at most")
    ends = {code: count for code, count in codes.items() if not code.startswith("of ")}
    unknown = {code for code in ends if not code.startswith("done")} - {*FETCH_CODES, *DECODE_CODES}
    faults = {
        "images ended with unknown codes": unknown,
        f"a batch took longer than {most_seconds} s": longest > most_seconds,
        f"the worker took more than {MOST_MEGABYTES} MB": peak > MOST_MEGABYTES,
        "the worker died": not worker.is_alive,
        "images are missing": sum(ends.values()) != len(names),
        "the worker logged errors": "ERROR" in worker.text,
    }
    hands.expect_books_balanced(app)
    if found := [fault for fault, is_so in faults.items() if is_so]:
        raise SystemExit("; ".join(found))
    print("no deaths; every image was read or has its code")


def settle(client: FlaskClient, host: Host, numbers: range, processors: Sequence[str] = ()) -> list[dict]:
    images = hands.visit(images=[f"{host.url}/{number}.jpg" for number in numbers])
    job_id = hands.submit(client, images, processors=list(processors))
    address = f"/api/jobs/{job_id}"
    wait_for(lambda: client.get(address).json["status"] != "ongoing", MOST_DECODING_SECONDS, what=f"images {numbers}")
    return client.get(f"{address}/images?per_page=1000").json["results"]


def peak_megabytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
