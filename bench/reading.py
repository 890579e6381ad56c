"""What answering costs: a status whatever the job's size, and visits whatever their number in the tables.

``python -m bench.reading [--visits 1000000]`` prints it by itself: to load ten million images takes a while.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import requests
from sqlalchemy import event

from app import create_app
from app.domain import transactions, visits
from app.domain.visits import VisitFilter
from app.extensions import db
from bench import bulk, servers, services
from bench.servers import DATABASE, BenchError, Servers
from config import Settings

STATUS_SIZES = (1, 1_000, 100_000)
TRIVIAL = "/live"
# Small enough that a page is full with the fewest visits too: the tables differ, the answers do not.
PER_PAGE = 25
DEEP_PAGES = 20
WARM_UP = 5


@dataclass(frozen=True)
class Sizes:
    """How many visits the tables hold, one after the other, and how often each question is asked."""

    visits: tuple[int, ...]
    asked: int


@dataclass
class Readings:
    """Seconds of each answer, by question; ``plans`` are EXPLAIN's rows for the visits queries at the largest size."""

    sizes: Sizes
    status: dict[str, list[float]] = field(default_factory=dict)
    visits: dict[tuple[int, str], list[float]] = field(default_factory=dict)
    plans: list[tuple[str, str, str, str]] = field(default_factory=list)  # question, table, key, rows examined
    fill_seconds: float = 0.0


def p95(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1]


def measure(servers: Servers, sizes: Sizes, tell: Callable[[str], None]) -> Readings:
    """Fill, ask, fill more, ask again; the tables are left full. Raises BenchError for an answer that is not right."""
    readings = Readings(sizes)
    bulk.prepare(servers.mariadb)
    with services.running(servers, servers.environment(), workers=0) as service:
        asker = _Asker(service.url, servers)
        asker.ask_status(readings)
        job = 1_000
        for size in sizes.visits:
            started = time.monotonic()
            for filled in bulk.fill(servers.mariadb, visits=size, first_job=job):
                if filled % 100_000 == 0:
                    tell(f"{filled:,} of {size:,} visits")
            readings.fill_seconds = time.monotonic() - started
            asker.ask_visits(readings, size)
            job += size // bulk.VISITS_A_JOB
    readings.plans = _plans(servers, asker.stores)
    return readings


class _Asker:
    """Asks over one connection that stays open; what is compared is asked in turn."""

    def __init__(self, url: str, servers: Servers) -> None:
        self._url = url
        self._mariadb = servers.mariadb
        self._session = requests.Session()
        self._session.trust_env = False
        rows = servers.mariadb.execute("SELECT id, area FROM stores ORDER BY id", database=DATABASE)
        self.stores: list[tuple[str, str]] = [(str(store), str(area)) for store, area in rows]
        self._dice = random.Random(1)

    def ask_status(self, readings: Readings) -> None:
        questions: dict[str, tuple[str, dict[str, Any]]] = {TRIVIAL: (TRIVIAL, {})}
        for job, images in enumerate(STATUS_SIZES, start=1):
            bulk.fill_job(self._mariadb, job=job, images=images)
            questions[f"{images:,} images"] = ("/api/status", {"jobid": job})
        for name in questions:
            readings.status[name] = []
        for turn in range(readings.sizes.asked + WARM_UP):
            for name, (path, parameters) in questions.items():
                seconds, _ = self._ask(path, parameters)
                if turn >= WARM_UP:
                    readings.status[name].append(seconds)

    def ask_visits(self, readings: Readings, size: int) -> None:
        for turn in range(readings.sizes.asked + WARM_UP):
            for name, parameters in self._questions().items():
                seconds, answer = self._ask("/api/visits", parameters | {"per_page": PER_PAGE, "format": "flat"})
                if turn >= WARM_UP:
                    readings.visits.setdefault((size, name), []).append(seconds)
                if not answer["results"]:
                    raise BenchError(f"no visits found for {parameters}")
        self._ask_deep(readings, size)

    def _questions(self) -> dict[str, dict[str, Any]]:
        store, area = self._dice.choice(self.stores)
        first = bulk.FIRST_DAY + timedelta(days=30 * self._dice.randrange(12))
        month = {"startdate": first.isoformat(), "enddate": (first + timedelta(days=30)).isoformat()}
        year = {"startdate": "2024-01-01", "enddate": "2024-12-31"}
        return {"an area, a month": {"area": area, **month}, "a store, a year": {"storeid": store, **year}}

    def _ask_deep(self, readings: Readings, size: int) -> None:
        """The twentieth page and those behind it, by their cursors."""
        parameters: dict[str, Any] = {"startdate": "2024-01-01", "per_page": PER_PAGE, "format": "flat"}
        for page in range(DEEP_PAGES + readings.sizes.asked):
            seconds, answer = self._ask("/api/visits", parameters)
            kind = "all stores, first pages" if page < DEEP_PAGES else "all stores, later pages"
            if page:
                readings.visits.setdefault((size, kind), []).append(seconds)
            if answer["next"] is None:
                return
            parameters["cursor"] = answer["next"]

    def _ask(self, path: str, parameters: dict[str, Any]) -> tuple[float, Any]:
        started = time.perf_counter()
        answer = self._session.get(f"{self._url}{path}", params=parameters, timeout=60)
        seconds = time.perf_counter() - started
        if answer.status_code != 200:
            raise BenchError(f"{path} answered {answer.status_code}: {answer.text[:300]}")
        return seconds, answer.json()


def _plans(servers: Servers, stores: Sequence[tuple[str, str]]) -> list[tuple[str, str, str, str]]:
    """EXPLAIN of the very statements that the two questions lead to."""
    app = create_app(Settings.from_env(servers.environment()))
    store, area = stores[0]
    first = bulk.FIRST_DAY
    questions = {
        "an area, a month": VisitFilter(area=area, start=first, end=first + timedelta(days=30)),
        "a store, a year": VisitFilter(store_id=store, start=first, end=first + timedelta(days=365)),
    }
    found = []
    with app.app_context():
        for name, wanted in questions.items():
            for statement, parameters in _statements(wanted):
                for row in _explain(statement, parameters):
                    found.append((name, str(row["table"]), str(row["key"]), str(row["rows"])))
        db.engine.dispose()
    return found


def _statements(wanted: VisitFilter) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if "visits" in statement:
            seen.append((statement, parameters))

    event.listen(db.engine, "before_cursor_execute", note)
    visits.find(wanted, cursor=None, per_page=PER_PAGE, with_total=False)
    event.remove(db.engine, "before_cursor_execute", note)
    return seen


def _explain(statement: str, parameters: Any) -> list[Any]:
    def ask(session: Any) -> list[Any]:
        rows = session.connection().exec_driver_sql(f"EXPLAIN {statement}", parameters)
        return list(rows.mappings())

    return transactions.read(ask)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.reading", description=__doc__)
    parser.add_argument("--visits", type=int, default=1_000_000, help="as many at most (default: %(default)s)")
    parser.add_argument("--few", type=int, default=10_000, help="... and at first (default: %(default)s)")
    parser.add_argument("--asked", type=int, default=200, help="how often each question is put (default: %(default)s)")
    given = parser.parse_args()
    try:
        with servers.running() as started:
            services.prepare(started)
            readings = measure(started, Sizes((given.few, given.visits), given.asked), _tell)
    except (BenchError, TimeoutError, RuntimeError) as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    print("\n".join(_lines(readings)))
    return 0


def _lines(readings: Readings) -> Iterator[str]:
    yield "| status of a job of | median ms | p95 ms |\n|---|---|---|"
    for name, seconds in readings.status.items():
        yield f"| {name} | {1000 * statistics.median(seconds):.1f} | {1000 * p95(seconds):.1f} |"
    few, many = readings.sizes.visits
    yield f"\n| visits | p95 ms of {few:,} | p95 ms of {many:,} | times |\n|---|---|---|---|"
    for name in dict.fromkeys(name for _, name in readings.visits):
        before, after = (1000 * p95(readings.visits[size, name]) for size in (few, many))
        yield f"| {name} | {before:.1f} | {after:.1f} | {after / before:.2f} |"
    yield "\n| EXPLAIN of | table | key | rows |\n|---|---|---|---|"
    yield from (f"| {' | '.join(plan)} |" for plan in readings.plans)
    yield f"\n{many * bulk.IMAGES_A_VISIT:,} images were loaded in {readings.fill_seconds:,.0f} s."


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
