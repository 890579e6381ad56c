"""The figures as a page: tables, targets, and what falls short with its cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date

from bench import machine, targets
from bench.rounds import BARE, BARE_NO_PAUSE, OURS, OURS_NO_PAUSE, SEED, SHORT, WAYS, Chapter, Findings, Plan
from bench.runs import HOST, MARIADB, RECOVER, REDIS, WEB, WORKERS, Series
from bench.servers import Servers
from bench.targets import Target
from bench.ways.bare import DOWNLOADS, PROCESSES
from bench.ways.bare import SLOTS as BARE_SLOTS

PARTS = (WORKERS, MARIADB, REDIS, WEB, RECOVER, HOST)
# What a way is compared with: the limit that has the same pause.
LIMITS = {OURS: BARE, OURS_NO_PAUSE: BARE_NO_PAUSE}

Row = Sequence[str]


def render(findings: Findings, servers: Servers, *, command: str, day: date) -> str:
    judged = targets.judge(findings)
    blocks = [
        "# What `make bench` measured",
        f"`{command}`, {day:%Y-%m-%d}, medians of {findings.plan.rounds} rounds. {_caution(findings.plan)}".rstrip(),
        f"{machine.describe()}. {machine.versions(servers)}.",
        *_what_is_measured(findings.plan),
        *(block for chapter in findings.chapters for block in _chapter(chapter)),
        "## Targets",
        _table(("to reach", "reached", ""), [_target(target) for target in judged]),
        "## What falls short, and why",
        *_list(_shortfalls(judged)),
        *_list(targets.remarks(findings)),
    ]
    return "\n\n".join(blocks) + "\n"
