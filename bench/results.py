"""The figures as a page: tables, targets, and what falls short with its cause."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from bench import bulk, detector, fetching_page, machine, markdown, reading, targets
from bench.pictures import WEIGHTS
from bench.reading import Readings
from bench.rounds import BARE, BARE_NO_PAUSE, OURS, OURS_NO_PAUSE, PAUSE, SEED, WAYS, Chapter, Findings, Plan
from bench.runs import HOST, MARIADB, RECOVER, REDIS, WEB, WORKERS, Series
from bench.targets import Target
from bench.ways import bare, ours

# What a way is compared with: the limit that has the same pause.
LIMITS = {OURS: BARE, OURS_NO_PAUSE: BARE_NO_PAUSE}
PARTS = (WORKERS, MARIADB, REDIS, WEB, RECOVER, HOST)
HEAD = ("", "images/s", "times (a)", "of (c)", *PARTS, "peak MB", "slots in use", "cores busy")

EXPLANATION = """\
Images a second are the median, with the least and the most in brackets. The columns from "workers" to "image host" are
CPU seconds (user and system, children included) for 1,000 images, by part. Peak MB is the most resident memory that the
largest working process has had since its start. Every way works on the same URLs of one nginx, all on loopback.

- **(a)** is `bench/seed.py`: one Celery task a job in a worker of `--pool=solo`, one image after the other, one UPDATE
  an image. A job of {seed_images} images: their pauses make its rate uncertain by some {seed_error:.0%}.
- **(b)** is this service with the settings that ship: gunicorn, {workers} worker processes with {slots:,} slots in all,
  recover. A job of {images:,} images ({no_pause_images:,} without the pause) by `POST /api/submit/`, from its answer to
  its `finished_at`, after a job of {warm_images:,} that warms up. Its books were checked afterwards: all images done,
  rows equal to counters. Slots in use are the seconds that images spent in them, divided by the time and the slots
  there are.
- **(c)** is `bench/bare.py`: download and header in a plain libcurl loop, {processes} processes with {bare_slots}
  images in flight each, {downloads} of them downloading; no queue, no database, no checks. Connections are warm.
- Accepting a job is its POST, with the web process running alone; the bare insert is one transaction of SQLAlchemy
  Core's bulk inserts of the very rows that this POST left, on the same server. A job of one image is timed from before
  its POST to its `finished_at`, on an idle service that has no pause.
- The pause is {least:g} to {most:g} s an image, none where it says so."""


@dataclass
class Found:
    """What a run measured; chapters that were not asked for, or cannot be had here, are empty."""

    versions: str
    images: Findings | None = None
    beside: list[Target] = field(default_factory=list)
    hosts: list[Target] = field(default_factory=list)


def render(found: Found, *, command: str, day: date, is_short: bool) -> str:
    judged = [*_judge(found.images), *found.beside, *found.hosts]
    how = CAUTION if is_short else "medians of three rounds in which the ways took turns"
    blocks = [
        "# What `make bench` measured",
        f"`{command}`, {day:%Y-%m-%d}, {how}.",
        f"{machine.describe()}. {found.versions}.",
        *(_images(found.images) if found.images else []),
        *(["## Jobs beside each other", BESIDE] if found.beside else []),
        *(["## Hosts", HOSTS] if found.hosts else []),
        "## Targets",
        targets.table(judged),
        "## What falls short, and why",
        markdown.bullets([*_shortfalls(judged), *(targets.remarks(found.images) if found.images else [])]),
    ]
    return "\n\n".join(blocks) + "\n"


CAUTION = "**a short run: it shows that everything works, its figures mean nothing**"

BESIDE = """\
`python -m bench.sharing`: one service with keys, two workers with the settings that ship, images of about 20 KB, a job
after the other beside those that stay open. Rates are medians of three; what they are compared with was measured in the
same run. Old jobs are a million images that `imagejobs purge` deletes meanwhile. The books were audited afterwards."""

HOSTS = """\
`make hosts`: network namespaces of this machine; MariaDB, Redis and web on one, the images on another, a worker on each
of the others, with so few slots that these, and not the cores that all share, are the limit. Medians of three rounds;
the books were audited afterwards."""


def _judge(findings: Findings | None) -> list[Target]:
    if findings is None:
        return []
    return [
        *targets.judge(findings),
        *fetching_page.judge(findings.fetching, findings.chapters[0].series[OURS_NO_PAUSE]),
    ]


def _images(findings: Findings) -> list[str]:
    return [
        _explanation(findings.plan),
        *(block for chapter in findings.chapters for block in _chapter(chapter)),
        *fetching_page.render(findings.fetching, findings.chapters[0].series[OURS_NO_PAUSE]),
        *_reading(findings.readings),
        *_detecting(findings),
    ]


def _explanation(plan: Plan) -> str:
    return EXPLANATION.format(
        seed_images=plan.seed_images,
        seed_error=_seed_error(plan),
        workers=ours.WORKER_PROCESSES,
        slots=ours.SLOTS,
        images=plan.images,
        no_pause_images=plan.no_pause_images,
        warm_images=plan.warm_images,
        processes=bare.PROCESSES,
        bare_slots=bare.SLOTS,
        downloads=bare.DOWNLOADS,
        least=PAUSE[0],
        most=PAUSE[1],
    )


def _seed_error(plan: Plan) -> float:
    """Of the mean of so many pauses, evenly distributed from least to most: one standard deviation, in parts of it."""
    least, most = PAUSE
    return (most - least) / math.sqrt(12 * plan.seed_images) / ((least + most) / 2)


def _chapter(chapter: Chapter) -> list[str]:
    album = chapter.album
    width, height = album.weight.size
    title = f"## Images of about {album.weight.name}"
    drawn = f"{len(album.paths)} JPEGs of {width}x{height}, {album.mean_bytes / 1000:.0f} KB on average."
    return [title, drawn, markdown.table(HEAD, [_row(chapter, chapter.series[way]) for way in WAYS])]


def _row(chapter: Chapter, series: Series) -> Sequence[str]:
    limit = LIMITS.get(series.way)
    rates = [run.rate for run in series.runs]
    return (
        series.way,
        f"{_rate(series.rate)} ({_rate(min(rates))} to {_rate(max(rates))})",
        f"{series.rate / chapter.series[SEED].rate:,.0f}",
        f"{series.rate / chapter.series[limit].rate:.2f}" if limit else "",
        *(f"{series.cpu(part):.2f}" if part in series.parts else "" for part in PARTS),
        f"{max(run.peak_mb for run in series.runs):.0f}",
        f"{series.median(lambda run: run.slots_used or 0):.0%}" if series.way == OURS else "",
        f"{series.median(lambda run: run.busy):.0%}",
    )


READING = """\
Answers of one web process over one connection that stays open, in milliseconds: the median, and the 95th percentile of
{asked} answers a row. `bench/bulk.py` fills the tables: jobs of {a_job:,} visits with {a_visit} images each, spread
over the sample's stores and one year. A page has {per_page} visits: the answers are alike, only the tables differ."""


def _reading(readings: Readings) -> list[str]:
    sizes = readings.sizes
    most = sizes.visits[-1]
    status = [(name, _milliseconds(seconds)) for name, seconds in readings.status.items()]
    asked = [(f"{size:,}", name, _milliseconds(seconds)) for (size, name), seconds in readings.visits.items()]
    return [
        "## Answering",
        READING.format(
            asked=sizes.asked, a_job=bulk.VISITS_A_JOB, a_visit=bulk.IMAGES_A_VISIT, per_page=reading.PER_PAGE
        ),
        markdown.table(("GET /api/status of a job of", "ms, median / p95"), status),
        markdown.table(("visits in the tables", "GET /api/visits of", "ms, median / p95"), asked),
        f"With {most:,} visits of {most * bulk.IMAGES_A_VISIT:,} images, which took {readings.fill_seconds:,.0f} s to "
        "fill in, MariaDB's plans (EXPLAIN) are:",
        markdown.table(("GET /api/visits of", "table", "key", "rows to examine"), readings.plans),
    ]


DETECTING = """\
Photos of {size[0]}x{size[1]} pixels through the detector, images a second, the median with the least and the most in
brackets: {photos:,} photos a round, one worker and {processes} processes of the detector against as many bare sessions
of the same model, batches of {batch} (`bench/detector.py`)."""


def _detecting(findings: Findings) -> list[str]:
    found = findings.detections
    rows = {
        "bare sessions that decode": [each.bare for each in found],
        "the model alone": [each.alone for each in found],
        "a worker": [each.ours for each in found],
    }
    head = DETECTING.format(
        size=WEIGHTS[0].size, photos=findings.plan.detected, processes=detector.PROCESSES, batch=detector.BATCH
    )
    return [
        "## Detecting",
        head,
        markdown.table(
            ("", "images/s"),
            [
                (name, f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})")
                for name, rates in rows.items()
            ],
        ),
    ]


def _milliseconds(seconds: Sequence[float]) -> str:
    return f"{1000 * statistics.median(seconds):.1f} / {1000 * reading.p95(seconds):.1f}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _shortfalls(judged: Iterable[Target]) -> list[str]:
    missed = [
        f"Missed: {target.wanted}. Reached: {'; '.join(filter(None, (target.found, target.cause)))}."
        for target in judged
        if not target.is_met
    ]
    return missed or ["Every target above was met."]
