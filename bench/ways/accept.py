"""Accepting a job, against the bare bulk insert of the very rows that it leaves, without workers beside either."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, create_engine, func, insert, select

from app.models import Base
from bench import services
from bench.costs import Meter, resident_mb
from bench.runs import MARIADB, WEB
from bench.servers import DATABASE, Servers
from bench.services import Service

# Bells rung here are nobody's; those of the service ring in database 0.
BROKER_DATABASE = "/2"
JOBS = Base.metadata.tables["jobs"]
PARTS = [Base.metadata.tables[name] for name in ("visits", "chunks", "images")]

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Accepted:
    """Seconds and CPU seconds of one POST until its answer, and seconds of a transaction that inserts the same rows."""

    post_seconds: float
    web_seconds: float
    mariadb_seconds: float
    insert_seconds: float
    web_mb: float  # memory of the web processes, resident, once it was answered


def measure(servers: Servers, urls: Sequence[str], rounds: int) -> list[Accepted]:
    """``rounds`` pairs, taken in turn, after one that warms up; the tables are empty afterwards."""
    environment = servers.environment(REDIS_URL=servers.redis.url.removesuffix("/0") + BROKER_DATABASE)
    engine = create_engine(environment["DATABASE_URL"])
    with services.running(servers, environment, workers=0) as service, engine.connect() as connection:
        pairs = [_measure(service, connection, urls) for _ in range(rounds + 1)]
    engine.dispose()
    for table in (JOBS, *PARTS):
        servers.mariadb.execute(f"TRUNCATE TABLE {table.name}", database=DATABASE)
    return pairs[1:]


def _measure(service: Service, connection: Connection, urls: Sequence[str]) -> Accepted:
    meter = Meter(service.pids)
    posted = service.submit(urls)
    cpu = meter.read().parts
    job, parts = _rows_of(connection, posted.job_id)
    started = time.monotonic()
    connection.execute(insert(JOBS), [job])
    for table, rows in parts:
        connection.execute(insert(table), rows)
    connection.commit()
    insert_seconds = time.monotonic() - started
    seconds = posted.answered_at - posted.posted_at
    return Accepted(seconds, cpu[WEB], cpu[MARIADB], insert_seconds, resident_mb(service.pids[WEB]))


def _rows_of(connection: Connection, job_id: int) -> tuple[dict[str, Any], list[tuple[Table, Rows]]]:
    """What the POST of ``job_id`` has written, under the number of a job that is not there yet."""
    new_id = int(connection.execute(select(func.max(JOBS.c.id))).scalar_one()) + 1
    [job] = _filled(connection, JOBS, JOBS.c.id == job_id)
    job |= {"id": new_id, "submission": f"insert {new_id}"}
    parts = [(table, _filled(connection, table, table.c.job_id == job_id)) for table in PARTS]
    for _, rows in parts:
        for row in rows:
            row["job_id"] = new_id
    connection.rollback()
    return job, parts


def _filled(connection: Connection, table: Table, condition: Any) -> Rows:
    """Rows with those columns only that hold anything: the others are not named when a job is created either."""
    rows = [dict(row) for row in connection.execute(select(table).where(condition)).mappings()]
    filled = {name for row in rows for name, value in row.items() if value is not None}
    return [{name: row[name] for name in filled} for row in rows]
