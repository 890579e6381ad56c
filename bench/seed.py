"""(a) A plain loop in the way of seed 000: one Celery task a job, which takes one image after the other.

The worker of this file runs as seed 000 says: ``celery -A bench.seed worker --pool=solo``. It takes DATABASE_URL,
REDIS_URL and the pause from the same settings as the service, and keeps its results in a table of its own.
"""

from __future__ import annotations

import io
import random
import time

import requests
from celery import Celery
from PIL import Image
from sqlalchemy import column, create_engine, func, select, table, update

from config import Settings

WORK = "seed.work"
TIMEOUT_SECONDS = 30

settings = Settings.from_env()
app = Celery("seed", broker=settings.REDIS_URL)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
engine = create_engine(settings.database_url)

# ``bench.ways.seed`` creates and fills it.
images = table("seed_images", *(column(name) for name in ("job_id", "seq", "url", "perimeter", "done_at")))


@app.task(name=WORK)
def work(job_id: int) -> None:
    with engine.connect() as connection:
        rows = connection.execute(select(images.c.seq, images.c.url).where(images.c.job_id == job_id)).all()
    for seq, url in rows:
        perimeter = measure(url)
        time.sleep(random.uniform(settings.GPU_PAUSE_MIN_SECONDS, settings.GPU_PAUSE_MAX_SECONDS))
        is_image = (images.c.job_id == job_id) & (images.c.seq == seq)
        with engine.begin() as connection:
            done = {"perimeter": perimeter, "done_at": func.utc_timestamp(6)}
            connection.execute(update(images).where(is_image).values(done))


def measure(url: str) -> int:
    """Download an image and return its perimeter in pixels."""
    response = requests.get(url, timeout=TIMEOUT_SECONDS)
    response.raise_for_status()
    width, height = Image.open(io.BytesIO(response.content)).size
    return 2 * (height + width)
