"""Sums of visits: the same as adding up the visits, whatever the period, and whatever happens to the visits."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, text

from app.domain import access, audit, jobs, purges, recover, transactions, visit_groups, visit_sums, visit_tables
from app.domain.access import Caller, Scope
from app.domain.plans import NewJob, NewVisit
from app.domain.visit_groups import Group
from app.domain.visit_tables import Sort, Wanted
from app.models import JobSource, VisitChange, VisitState, VisitSum
from testbed.processes import wait_for
from tests.integration import hands
from tests.integration.test_visit_tables import BEGIN, STORES, fill

MOMENTS = [
    None,
    BEGIN - timedelta(days=3),
    BEGIN,
    BEGIN + timedelta(hours=6),
    BEGIN + timedelta(days=1, microseconds=-1),
    datetime(2020, 9, 17, 18),
    datetime(2020, 9, 30, 23, 59, 59, 999_999),
    datetime(2020, 10, 1),
    datetime(2020, 10, 4, 12, 0, 0, 1),
    datetime(9999, 12, 31, 23, 59, 59, 999_999),
    datetime(9999, 12, 31, 12),
    datetime(1000, 1, 1, 6),
]


def add_up(wanted: Wanted, group: Group) -> dict[object, tuple[int, int, int, int]]:
    """The same from the rows themselves: visits, failed, open, perimeter by key."""
    sums: dict[object, Counter[str]] = {}
    for part in visit_tables.read(wanted, Sort.OLDEST):
        for row in part:
            day = row.visited_at.date()
            key = {
                Group.STORE: row.store_id,
                Group.AREA: row.area,
                Group.DAY: day,
                Group.WEEK: day - timedelta(days=day.weekday()),
            }[group]
            counts = sums.setdefault(key, Counter())
            counts["visits"] += 1
            counts[row.state.value] += 1
            counts["perimeter"] += row.perimeter if row.state is VisitState.COMPLETED else 0
    return {key: (c["visits"], c["failed"], c["open"], c["perimeter"]) for key, c in sums.items()}


def test_groups_of_any_period_are_what_their_visits_add_up_to(app: Flask) -> None:
    hands.add_stores(app, STORES)
    fill(app)
    fill(app, 60, seed=8, job_id=1001)
    rng = random.Random(3)
    with app.app_context():
        for number in range(60):
            start, end = rng.choice(MOMENTS), rng.choice(MOMENTS)
            if start and end and start > end:
                start, end = end, start
            wanted = Wanted(
                start,
                end,
                rng.choice([None, None, "A1"]),
                rng.choice([None, None, "S04", "NOWHERE"]),
                rng.choice([None, None, None, 1000]),
                rng.choice([None, None, *VisitState]),
            )
            group = list(Group)[number % 4]
            found = {
                row.key: (row.visits, row.failed, row.open, row.perimeter) for row in visit_groups.find(wanted, group)
            }
            assert found == add_up(wanted, group), (wanted, group)
            failed = sum(row.failed for row in visit_groups.find(Wanted(start, end, wanted.area), Group.DAY))
            assert sum(n for _, n in visit_groups.count_errors(Wanted(start, end, wanted.area))) == failed


def test_sums_follow_visits_through_cancel_retry_and_purge(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    visits = [hands.visit(store, 2, "2020-09-02T10:00:00Z") for store in [*hands.STORES, "S_UNKNOWN"]]
    first = hands.submit(client, *visits)
    hands.work_off(app, lambda work: hands.failed(work) if work.seq == 1 else hands.done(work))
    second = hands.submit(client, *visits)
    assert client.post(f"/api/jobs/{second}/cancel").status_code == 200

    def states() -> dict[str, int]:
        hands.expect_books_balanced(app)
        with app.app_context():
            [row] = visit_groups.find(Wanted(), Group.DAY)
            assert visit_groups.find(Wanted(start=datetime(2020, 9, 1)), Group.WEEK)[0].visits == row.visits
            return {"completed": row.completed, "failed": row.failed, "open": row.open, "all": row.visits}

    assert states() == {"completed": 2, "failed": 3, "open": 0, "all": 8}
    with app.app_context():
        assert visit_sums.fold() > 0 and visit_sums.fold() == 0
    assert states() == {"completed": 2, "failed": 3, "open": 0, "all": 8}
    assert client.post(f"/api/jobs/{first}/retry").json["reopened"] == 1
    assert states() == {"completed": 2, "failed": 2, "open": 1, "all": 8}
    hands.work_off(app)
    assert states() == {"completed": 3, "failed": 2, "open": 0, "all": 8}
    with app.app_context():
        visit_sums.fold()
        purges.purge(0)
        assert visit_groups.find(Wanted(), Group.STORE) == []
        visit_sums.fold()
        left = [transactions.read(lambda session, of=table: session.scalar(select(func.count()).select_from(of)))
                for table in (VisitSum, VisitChange)]  # fmt: skip
    assert left == [0, 0]
    hands.expect_books_balanced(app)


def test_everybodys_sums_are_their_own(app: Flask) -> None:
    hands.add_stores(app)
    for owner in (7, 8):
        visits = [NewVisit("S00339218", datetime(2020, 9, 2), "x", ["https://host/1.jpg"])] * owner
        with app.test_request_context():
            access.enter(Caller(owner, frozenset({Scope.SUBMIT})))
            jobs.create(NewJob(JobSource.URLS, visits))
    hands.work_off(app)
    with app.test_request_context():
        for is_folded in (False, True):
            if is_folded:
                visit_sums.fold()
            for owner, visible in ((8, [8]), (9, []), (None, [])):
                access.enter(Caller(owner, frozenset({Scope.READ})))
                assert [row.visits for row in visit_groups.find(Wanted(), Group.STORE)] == visible
            access.enter(access.SERVICE)
            assert [row.visits for row in visit_groups.find(Wanted(), Group.STORE)] == [15]


def test_two_that_add_up_at_once_add_nothing_twice(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, *(hands.visit(time=f"2020-09-{1 + n % 28:02}") for n in range(300)))
    hands.work_off(app)
    folded: list[int] = []

    def fold() -> None:
        with app.app_context():
            while found := visit_sums.fold(most=20):
                folded.append(found)

    threads = [threading.Thread(target=fold) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(folded) == 300
    hands.expect_books_balanced(app)


def test_the_recover_loop_adds_up(make_app: Callable[..., Flask]) -> None:
    app = make_app(RECOVER_SECONDS=0.05)
    hands.add_stores(app)
    hands.submit(app.test_client(), hands.visit("S_UNKNOWN"))
    stop = threading.Event()

    def loop() -> None:
        with app.app_context():
            recover.run(stop)

    def noted() -> int:
        with app.app_context():
            return transactions.read(lambda session: session.scalar(select(func.count()).select_from(VisitChange))) or 0

    assert noted() == 1
    thread = threading.Thread(target=loop)
    thread.start()
    try:
        wait_for(lambda: noted() == 0, 30)
    finally:
        stop.set()
        thread.join()
    hands.expect_books_balanced(app)


def test_a_recount_puts_right_what_an_audit_finds(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit(images=2), hands.visit("S01408764"))
    hands.work_off(app)
    with app.app_context():
        visit_sums.fold()
        spoil = "UPDATE visit_sums SET visits = 5 WHERE grain = 'store_day'"
        transactions.run(lambda session: session.execute(text(spoil)))
        found = [finding.message for finding in audit.run().findings if finding.code == audit.SUMS]
        assert "visits of store S00339218 on 2020-09-02 that are completed: 1/2/0/2000" in found[0]
        assert visit_sums.recount() == 5  # two days of stores; their months, and the day of all, no more follow them
        assert audit.run().findings == ()
        visit_sums.fold()
        assert [row.visits for row in visit_groups.find(Wanted(start=datetime(2020, 9, 2)), Group.STORE)] == [1, 1]
        assert [row.visits for row in visit_groups.find(Wanted(), Group.STORE)] == [1, 1]
        assert visit_sums.recount() == 0
        spoil = "UPDATE visit_sums SET images = 9 WHERE grain = 'day'"
        transactions.run(lambda session: session.execute(text(spoil)))
        [finding] = audit.run().findings
        assert finding.message == (
            "the sum by day of all stores from 2020-09-02 (completed) says 2/9/0/3000, its days come to 2/3/0/3000:"
            " run recount"
        )
        assert visit_sums.recount() == 1
        assert audit.run().findings == ()
