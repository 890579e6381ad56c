"""What ``bench.fetching`` found as a part of the page, and what was to be reached."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from bench import fetching, markdown, slots
from bench.fetching import BARE_SECURE, SECURE, Fetching
from bench.runs import HOST, WORKERS, Series
from bench.targets import Target
from bench.ways import bare, img2dataset, ours

LEAST_SECURE = 0.7
LEAST_RIVAL = 30.0
LEAST_SLOTS = 0.9
MOST_MB = 130.0
MOST_GROWTH = 1.1

EXPLANATION = """\
All with images of about 200 KB. By HTTPS means TLS 1.3 over connections that stay open, by an authority of our own.
The bare clients download and read headers, without a pause: two processes with {downloads} downloads each. (d) is
img2dataset {rival:,} images at a time, `--output_format dummy --resize_mode no --skip_reencode True` in
{processes} processes, without the seconds that they take to start."""

SLOTS = """\
![Slots in use during a job](slots.svg)

A job of {images:,} images with the pause, in {workers} processes with {slots:,} slots in all. An image takes its slot
when its request comes to the image host (by its log), and leaves it after the seconds that its row says it took. From
the first second to the last 2 % (between the dashed lines) {part:.1%} of the slots were in use, the median of
{rounds} jobs; drawn is that one."""

MEMORY = """\
One worker process with {slots:,} slots, headers only, no pause: the most resident memory that it has had was
{first:.0f} MB after the first {images:,} images and {last:.0f} MB after {all_images:,}."""


def render(found: Fetching, ours_no_pause: Series) -> list[str]:
    sizes = found.sizes
    line = fetching.median_timeline(found.timelines)
    return [
        "## HTTPS, clients and other programs",
        EXPLANATION.format(downloads=bare.DOWNLOADS, rival=sizes.rival, processes=img2dataset.PROCESSES),
        markdown.table(("", "images/s", "workers, CPU s for 1,000", HOST), _rows(found, ours_no_pause)),
        "## Slots in use",
        SLOTS.format(
            images=sizes.slots,
            workers=ours.WORKER_PROCESSES,
            slots=line.slots,
            part=line.part,
            rounds=len(found.timelines),
        ),
        "## Memory",
        MEMORY.format(
            slots=sizes.memory_slots,
            first=found.peaks[0],
            images=sizes.memory,
            last=found.peaks[-1],
            all_images=sizes.memory * sizes.memory_jobs,
        ),
    ]


def draw(found: Fetching) -> str:
    line = fetching.median_timeline(found.timelines)
    return slots.draw(line, f"Slots in use: {line.part:.1%} of {line.slots:,}, a job of {found.sizes.slots:,} images")


def _rows(found: Fetching, ours_no_pause: Series) -> Iterator[Sequence[str]]:
    for series in found.secure.values():
        yield _row(series.way, series)
    for (client, scheme), series in sorted(found.clients.items()):
        yield _row(f"bare {client}, {scheme}, no pause", series)
    if best := found.best_rival:
        yield _row(ours_no_pause.way, ours_no_pause)
        yield _row(f"{best.way}, no pause", best)
    else:
        yield ("aiohttp and img2dataset were not installed", "", "", "")


def _row(name: str, series: Series) -> Sequence[str]:
    rates = [run.rate for run in series.runs]
    range_ = f"{series.rate:,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"
    return name, range_, f"{series.cpu(WORKERS):.2f}", f"{series.cpu(HOST):.2f}"


def judge(found: Fetching, ours_no_pause: Series) -> Iterator[Target]:
    secure, bare_secure = found.secure[SECURE], found.secure[BARE_SECURE]
    yield Target(
        f"over HTTPS: at least {LEAST_SECURE:g} of the bare limit over HTTPS",
        f"{secure.rate / bare_secure.rate:.2f} ({secure.rate:,.0f} against {bare_secure.rate:,.0f} images/s)",
        secure.rate >= LEAST_SECURE * bare_secure.rate,
        f"{secure.median(lambda run: run.busy):.0%} of the cores were busy",
    )
    if best := found.best_rival:
        yield Target(
            f"without the pause: at least {LEAST_RIVAL:g} times img2dataset",
            f"{ours_no_pause.rate / best.rate:.0f} times ({best.rate:,.0f} images/s with its best number of threads)",
            ours_no_pause.rate >= LEAST_RIVAL * best.rate,
            "it opens a connection for each image",
        )
    part = statistics.median(line.part for line in found.timelines)
    yield Target(
        f"slots in use, from the first second to the last 2 %: at least {LEAST_SLOTS:.0%}",
        f"{part:.1%}",
        part >= LEAST_SLOTS,
        "see the plot",
    )
    yield Target(
        f"memory of a worker process with {found.sizes.memory_slots:,} slots: at most {MOST_MB:g} MB",
        f"{found.peaks[-1]:.0f} MB",
        found.peaks[-1] <= MOST_MB,
        "most of it are the modules that are loaded at its start",
    )
    yield Target(
        f"... after {found.sizes.memory * found.sizes.memory_jobs:,} images: at most {MOST_GROWTH:g} times "
        "that after the first job",
        f"{found.peaks[-1] / found.peaks[0]:.2f} times",
        found.peaks[-1] <= MOST_GROWTH * found.peaks[0],
        "something is kept",
    )
