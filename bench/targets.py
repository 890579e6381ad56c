"""What was to be reached, whether it was, and where the time went: read off the figures, nothing by hand."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bench import markdown, reading
from bench.costs import CORES
from bench.reading import Readings
from bench.rounds import BARE, BARE_NO_PAUSE, OURS, OURS_NO_PAUSE, SEED, Chapter, Findings
from bench.runs import HOST, WORKERS, Series
from bench.ways.accept import Accepted
from bench.ways.ours import SLOTS

# By the weight of the images.
LEAST_RATIOS = {"200 KB": 900.0, "20 KB": 400.0}
LEAST_OF_BARE, LEAST_OF_BARE_NO_PAUSE = 0.95, 0.75
MOST_CPU_SECONDS, MOST_CPU_RATIO = 0.30, 1.3
MOST_INSERTS, MOST_WEB_GROWTH = 3.0, 1.1
MOST_SINGLE_SECONDS = 0.5
MOST_STATUS_SPREAD = 1.5
MOST_TRIVIAL = 3.0
MOST_VISITS_RATIO = 2.0
LEAST_DETECTED = 0.7
NOISE = 1.1
# Past these a resource counts as used up, and what others take as a disturbance.
FULL = 0.9
DISTURBED = 0.1


@dataclass(frozen=True)
class Target:
    wanted: str
    found: str
    is_met: bool
    cause: str = ""  # to be read where it is not met


def table(targets: Iterable[Target]) -> str:
    rows = [(each.wanted, each.found, "met" if each.is_met else "**missed**") for each in targets]
    return markdown.table(("to reach", "reached", ""), rows)


def judge(findings: Findings) -> list[Target]:
    return [
        *(_ratio(chapter, findings.plan.images) for chapter in findings.chapters),
        *_limits(findings.chapters[0]),
        *(target for size, pairs in findings.accepted.items() for target in accepting(size, pairs)),
        *(_single(chapter) for chapter in findings.chapters),
        *_reading(findings.readings),
        _detecting(findings),
    ]


def _ratio(chapter: Chapter, images: int) -> Target:
    ours, seed = chapter.series[OURS], chapter.series[SEED]
    ratio, least = ours.rate / seed.rate, LEAST_RATIOS[chapter.album.weight.name]
    return Target(
        f"a job of {images:,} images of {chapter.album.weight.name}: at least {least:g} times (a)",
        f"{ratio:,.0f} times",
        ratio >= least,
        "; ".join(explain(ours)),
    )


def _limits(chapter: Chapter) -> Iterator[Target]:
    for ours, bare, least, way in (
        (OURS, BARE, LEAST_OF_BARE, "with the pause"),
        (OURS_NO_PAUSE, BARE_NO_PAUSE, LEAST_OF_BARE_NO_PAUSE, "without it"),
    ):
        mine, limit = chapter.series[ours], chapter.series[bare]
        yield Target(
            f"{way}: at least {least:g} of the bare limit (c)",
            f"{mine.rate / limit.rate:.2f}",
            mine.rate >= least * limit.rate,
            "; ".join(explain(mine)),
        )
        seconds, theirs = mine.cpu(WORKERS), limit.cpu(WORKERS)
        yield Target(
            f"{way}: workers at most {MOST_CPU_SECONDS:.2f} CPU seconds for 1,000 images, "
            f"and at most {MOST_CPU_RATIO:g} times the bare client's",
            f"{seconds:.2f} s, {seconds / theirs:.2f} times",
            seconds <= min(MOST_CPU_SECONDS, MOST_CPU_RATIO * theirs),
            f"the bare client takes {theirs:.2f} s; all parts: " + ", ".join(_costs(mine)),
        )


def accepting(urls: int, pairs: Sequence[Accepted]) -> Iterator[Target]:
    """POSTs of so many URLs, one after the other at the same web server."""
    post = statistics.median(each.post_seconds for each in pairs)
    bare = statistics.median(each.insert_seconds for each in pairs)
    web = statistics.median(each.web_seconds for each in pairs)
    mariadb = statistics.median(each.mariadb_seconds for each in pairs)
    yield Target(
        f"accepting a job of {urls:,} URLs: at most {MOST_INSERTS:g} times the bare insert of its rows",
        f"{post / bare:.1f} times ({post:.2f} s against {bare:.2f} s)",
        post <= MOST_INSERTS * bare,
        f"of the {post:.2f} s the web process computed for {web:.2f} s, MariaDB for {mariadb:.2f} s",
    )
    memory = [each.web_mb for each in pairs]
    yield Target(
        f"... memory of the web process after the last of them: at most {MOST_WEB_GROWTH:g} times that after the first",
        f"{memory[-1] / memory[0]:.2f} times ({', '.join(f'{each:.0f}' for each in memory)} MB)",
        memory[-1] <= MOST_WEB_GROWTH * memory[0],
        "something is kept",
    )


def _single(chapter: Chapter) -> Target:
    total = statistics.median(single.total_seconds for single in chapter.singles)
    post = statistics.median(single.post_seconds for single in chapter.singles)
    return Target(
        f"a job of one image of {chapter.album.weight.name}: done within {MOST_SINGLE_SECONDS:g} s plus its pause",
        f"{total:.3f} s",
        total <= MOST_SINGLE_SECONDS,
        f"{post:.3f} s until the POST was answered, {total - post:.3f} s from there to the result in the database",
    )


def _detecting(findings: Findings) -> Target:
    ratio = statistics.median(each.ratio for each in findings.detections)
    alone = statistics.median(each.ours / each.alone for each in findings.detections)
    return Target(
        f"detecting: at least {LEAST_DETECTED:g} of what bare sessions do on the same photos",
        f"{ratio:.2f} of it, {alone:.2f} of the model alone",
        ratio >= LEAST_DETECTED,
        "beside the model there are decoding, reading storage, and the pipe to the children",
    )


def _reading(readings: Readings) -> Iterator[Target]:
    status = {name: statistics.median(seconds) for name, seconds in readings.status.items()}
    trivial = status.pop(reading.TRIVIAL)
    sizes = list(status.values())
    yield Target(
        f"a status of 1 to {reading.STATUS_SIZES[-1]:,} images: within {MOST_STATUS_SPREAD:g} times of each other",
        f"{max(sizes) / min(sizes):.2f} times",
        max(sizes) <= MOST_STATUS_SPREAD * min(sizes),
        "it reads the job's counters only",
    )
    yield Target(
        f"a status: at most {MOST_TRIVIAL:g} times `{reading.TRIVIAL}`",
        f"{max(sizes) / trivial:.1f} times",
        max(sizes) <= MOST_TRIVIAL * trivial,
        f"{1000 * (max(sizes) - trivial):.1f} ms more than a route that asks nobody",
    )
    few, many = readings.sizes.visits
    for name in dict.fromkeys(name for _, name in readings.visits):
        before, after = (reading.p95(readings.visits[size, name]) for size in (few, many))
        yield Target(
            f"visits of {name} among {many:,}: p95 at most {MOST_VISITS_RATIO:g} times that among {few:,}",
            f"{after / before:.2f} times",
            after <= MOST_VISITS_RATIO * before,
            f"{1000 * after:.1f} ms against {1000 * before:.1f} ms",
        )
    first, later = (
        statistics.median(readings.visits[many, f"all stores, {which} pages"]) for which in ("first", "later")
    )
    yield Target(
        f"later pages among {many:,} visits: no slower than the first",
        f"{later / first:.2f} times",
        later <= NOISE * first,
        f"{1000 * later:.1f} ms against {1000 * first:.1f} ms",
    )


def explain(series: Series) -> Iterator[str]:
    """Where the time of a way of ours went."""
    busy, slots = series.median(lambda run: run.busy), series.median(lambda run: run.slots_used or 0.0)
    others = series.median(lambda run: run.spent.others)
    yield (
        f"the {CORES} cores were {busy:.0%} busy (to {others:.0%} with programs that are no part of this), "
        f"{slots:.0%} of the {SLOTS:,} slots in use"
    )
    if busy >= FULL:
        yield "so the CPU is the limit: for 1,000 images " + ", ".join(_costs(series))
    elif slots >= FULL:
        stay = slots * SLOTS / series.rate
        yield f"so the slots are the limit: an image stays in one for {stay:.3f} s, its pause included"
    else:
        yield "so neither is the limit throughout: slots fill as a job begins, and as it ends its last pauses run out"


def _costs(series: Series) -> list[str]:
    """CPU seconds for 1,000 images by part, the dearest first."""
    dearest = sorted(series.parts, key=series.cpu, reverse=True)
    return [f"{part} {series.cpu(part):.2f} s" for part in dearest if series.cpu(part) >= 0.01]


def remarks(findings: Findings) -> Iterator[str]:
    """How far (b) stays behind (c) and why, and what disturbed the measurement."""
    for chapter in findings.chapters:
        ours, bare = chapter.series[OURS], chapter.series[BARE]
        yield (
            f"{chapter.album.weight.name}: (b) does {ours.rate / bare.rate:.2f} of (c); "
            + "; ".join(explain(ours))
            + "."
        )
    others = [
        run.spent.others for chapter in findings.chapters for each in chapter.series.values() for run in each.runs
    ]
    if max(others) >= DISTURBED:
        yield (
            f"Programs that are no part of this took {statistics.median(others):.0%} of the cores (median of all runs, "
            f"{max(others):.0%} at most): on a quiet machine the figures are higher, (b)'s and (c)'s by the most."
        )
    yield (
        f"The {HOST}, the database, the broker and what is measured share the same {CORES} cores: what one of them "
        "takes the others lack, and (c) has no database beside it."
    )
