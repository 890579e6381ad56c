"""Whatever is done to jobs, in whatever order, the books balance and no good result is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select

from app.domain import cancellations, chunk_leases, lifecycle, transactions
from app.domain.outcomes import Outcome
from app.domain.works import Claim, Work
from app.extensions import db
from app.models import Image, Job, Visit
from tests.integration import hands

STORES = ["S00339218", "S01408764", "LATE"]  # the last one comes into the store master later
CODES = ["timeout", "http_404"]
MOST_JOBS = 3
OUTCOMES: dict[str, Callable[[Work], Outcome]] = {
    "done": hands.done,
    "timeout": lambda work: hands.failed(work, "timeout", "slow"),
    "http_404": hands.failed,
    "again": lambda work: hands.again(work, 0),
}
a_visit = st.builds(hands.visit, st.sampled_from(STORES), st.integers(1, 12))
some_of = st.lists(st.sampled_from(CODES), min_size=1, max_size=2, unique=True)


@dataclass
class Held:
    """A claim in the hands of a worker, which may have lost it meanwhile."""

    claim: Claim
    left: list[Work] = field(default_factory=list)


class Jobs(RuleBasedStateMachine):
    """Workers, users and the clock, one step at a time."""

    jobs = Bundle("jobs")
    held = Bundle("held")

    def __init__(self, app: Flask) -> None:
        super().__init__()
        self.app, self.client = app, FlaskClient(app, app.response_class)
        self.images: dict[tuple[int, int], Any] = {}
        self.count = 0
        self.is_late_known = False

    @initialize()
    def start_afresh(self) -> None:
        with self.app.app_context():
            tables = db.metadata.sorted_tables
            transactions.run(lambda session: [session.execute(delete(table)) for table in tables])
        hands.add_stores(self.app)

    @precondition(lambda self: self.count < MOST_JOBS)
    @rule(target=jobs, visits=st.lists(a_visit, min_size=1, max_size=3))
    def submit(self, visits: list[Any]) -> int:
        self.count += 1
        return hands.submit(self.client, *visits)

    @precondition(lambda self: not self.is_late_known)
    @rule()
    def add_late_store(self) -> None:
        self.is_late_known = True
        hands.add_stores(self.app, {"LATE": ("710006", "Late")})

    @rule(target=held, images=st.integers(1, 12))
    def claim(self, images: int) -> Any:
        with self.app.app_context():
            found = hands.claim(images)
            chunk_leases.release([(each.key, each.token) for each in found[1:] if not each.work])
        return Held(found[0], list(found[0].work)) if found else None

    @rule(one=held, kinds=st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=4), is_twice=st.booleans())
    def settle(self, one: Held | None, kinds: list[str], is_twice: bool) -> None:
        if one is None or not one.left:
            return
        batch = [OUTCOMES[kind](work) for kind, work in zip(kinds, one.left, strict=False)]
        del one.left[: len(batch)]
        lease = (one.claim.key, one.claim.token)
        with self.app.app_context():
            settlement = lifecycle.settle(batch, [] if one.left else [lease])
            assert settlement.counted in (0, len(batch)), "a claim holds or it does not"
            if is_twice:
                assert lifecycle.settle(batch, [] if one.left else [lease]).counted == 0

    @rule(one=consumes(held))
    def give_back(self, one: Held | None) -> None:
        if one is not None:
            with self.app.app_context():
                chunk_leases.release([(one.claim.key, one.claim.token)])

    @rule()
    def let_leases_run_out(self) -> None:
        hands.make_due(self.app)

    @rule(job=jobs)
    def cancel(self, job: int) -> None:
        is_ongoing = self._state(job) == "ongoing"
        answer = self.client.post(f"/api/jobs/{job}/cancel")
        assert answer.status_code in ((200,) if is_ongoing else (200, 409))
        assert answer.status_code == 409 or answer.json["state"] == "cancelled"

    @rule(job=jobs)
    def begin_to_cancel(self, job: int) -> None:
        """As if the web process had died in the midst of it."""
        if self._state(job) == "ongoing":
            with self.app.app_context():
                transactions.run(lambda session: cancellations._mark(session, job, None))
                transactions.run(lambda session: cancellations._cancel_some(session, job))

    @rule()
    def resume_cancellations(self) -> None:
        with self.app.app_context():
            cancellations.resume()

    @rule(job=jobs, codes=st.none() | some_of, stores=st.none() | st.just(["S00339218"]), cancelled=st.booleans())
    def retry(self, job: int, codes: list[str] | None, stores: list[str] | None, cancelled: bool) -> None:
        answer = self.client.post(
            f"/api/jobs/{job}/retry", json={"error_codes": codes, "store_ids": stores, "cancelled": cancelled}
        )
        assert answer.status_code in (200, 202, 409)
        if answer.status_code == 202:
            assert self._state(job) == "ongoing"
        if answer.status_code == 409:
            assert self.client.get(f"/api/jobs/{job}").json["cancelled_at"]

    def _state(self, job: int) -> str:
        return self.client.get(f"/api/jobs/{job}").json["state"]

    @invariant()
    def books_balance(self) -> None:
        hands.expect_books_balanced(self.app)

    @invariant()
    def what_is_good_stays_and_attempts_only_grow(self) -> None:
        with self.app.app_context():
            found = transactions.read(lambda session: session.scalars(select(Image)).all())
        now = {(image.job_id, image.seq): image for image in found}
        for key, before in self.images.items():
            assert now[key].attempts >= before.attempts
            if before.state == "done":
                assert (now[key].state, now[key].attempts) == ("done", before.attempts)
        self.images = now

    @invariant()
    def states_are_what_counters_say(self) -> None:
        with self.app.app_context():
            jobs = transactions.read(lambda session: session.scalars(select(Job)).all())
            visits = transactions.read(lambda session: session.scalars(select(Visit)).all())
            images = transactions.read(lambda session: session.scalars(select(Image)).all())
        for one in [*jobs, *visits]:
            expected = (
                {"ongoing", "open"} if one.images_open
                else {"cancelled"} if one.images_cancelled and (isinstance(one, Job) or not one.images_failed)
                else {"failed"} if one.images_failed
                else {"completed"}
            )  # fmt: skip
            assert one.state in expected
        for one in visits:
            mine = [image for image in images if (image.job_id, image.visit_seq) == (one.job_id, one.seq)]
            assert one.seconds == pytest.approx(sum(image.seconds or 0 for image in mine), abs=1e-9)

    def teardown(self) -> None:
        """In the end everything that is open can be worked off."""
        hands.make_due(self.app)
        with self.app.app_context():
            cancellations.resume()
        hands.work_off(self.app)
        hands.expect_books_balanced(self.app)
        assert self.client.get("/api/jobs?state=ongoing").json["results"] == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_books_balance_after_any_mix_of_what_may_happen(make_app: Callable[..., Flask]) -> None:
    app = make_app(CHUNK_SIZE=4)
    bounded = settings(max_examples=20, stateful_step_count=25, deadline=None, database=None)
    run_state_machine_as_test(lambda: Jobs(app), settings=bounded)
