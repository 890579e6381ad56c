"""Numbers that only grow: what was created, settled, failed and finished since the tables were made.

They are written in the transaction of what they count, so a COMMIT that is repeated, a result that is refused and a
process that dies count nothing twice and nothing never. Their rows are locked last, after those of jobs.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping

from sqlalchemy import func, select
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.orm import Session

from app.domain.outcomes import Outcome
from app.models import ImageState, Total

JOBS_CREATED = "jobs_created"  # by source
JOBS_FINISHED = "jobs_finished"  # by state; again where a job was retried
IMAGES_SETTLED = "images_settled"  # by state; again where an image was retried
IMAGE_ERRORS = "image_errors"  # those that failed for good, by error code
IMAGE_RETRIES = "image_retries"  # attempts that failed and are tried again, by error code
WEBHOOK_TRIES = "webhook_tries"  # by what the delivery was after it: pending ones are tried again

SLOTS = 16
_slot = random.SystemRandom().randrange(SLOTS)

Counts = Mapping[tuple[str, str], int]


def of(outcomes: Iterable[Outcome]) -> Counts:
    """What these outcomes, which all were written, add."""
    counts: Counter[tuple[str, str]] = Counter()
    for outcome in outcomes:
        if outcome.state is not ImageState.OPEN:
            counts[IMAGES_SETTLED, outcome.state.value] += 1
            if outcome.error_code:
                counts[IMAGE_ERRORS, outcome.error_code] += 1
        elif outcome.is_attempt and outcome.error_code:
            counts[IMAGE_RETRIES, outcome.error_code] += 1
    return counts


def add(session: Session, counts: Counts) -> None:
    """Add to the totals; no commit. One statement, its rows in the order of their keys."""
    rows = [
        {"name": name, "label": label, "slot": _slot, "value": count}
        for (name, label), count in sorted(counts.items())
        if count
    ]
    if not rows:
        return
    if session.get_bind().dialect.name == "mysql":
        on_mysql = mysql.insert(Total).values(rows)
        session.execute(on_mysql.on_duplicate_key_update(value=Total.value + on_mysql.inserted.value))
    else:
        on_sqlite = sqlite.insert(Total).values(rows)
        key = [Total.name, Total.label, Total.slot]
        session.execute(
            on_sqlite.on_conflict_do_update(index_elements=key, set_={"value": Total.value + on_sqlite.excluded.value})
        )


def find(session: Session) -> dict[str, dict[str, int]]:
    """All totals, by name and label."""
    found: dict[str, dict[str, int]] = {}
    for name, label, value in session.execute(
        select(Total.name, Total.label, func.sum(Total.value)).group_by(Total.name, Total.label)
    ):
        found.setdefault(name, {})[label] = int(value)
    return found
