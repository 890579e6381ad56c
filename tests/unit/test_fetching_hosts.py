"""Caps, turns and breakers, with a clock that the test moves."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from app.errors import FetchError
from app.fetching import hosts as hosts_module
from app.fetching.hosts import BREAK_AFTER_FAILURES, STALL_QUEUE, Host, Hosts, Verdict


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def filled(hosts: Hosts, name: str, count: int) -> Host:
    host = hosts.find(name)
    for number in range(count):
        hosts.add(host, (name, number))
    return host


def take_all(hosts: Hosts) -> list[tuple[Host, object]]:
    taken = []
    while (each := hosts.take()) is not None:
        taken.append(each)
    return taken


def prove(hosts: Hosts, host: Host, times: int = 1) -> None:
    for _ in range(times):
        hosts.add(host, "proof")
        assert hosts.take() is not None
        hosts.finish(host, Verdict.GOOD)


def fail(hosts: Hosts, host: Host, times: int = 1, code: str = "timeout") -> None:
    for _ in range(times):
        hosts.add(host, "failure")
        assert hosts.take() is not None
        hosts.finish(host, Verdict.BAD, code)


def test_new_host_starts_with_its_first_cap(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    filled(hosts, "a", 100)
    assert (hosts.queued, hosts.ready) == (100, 16)
    assert len(take_all(hosts)) == 16
    assert (hosts.active, hosts.queued, hosts.ready) == (16, 84, 0)


def test_cap_grows_by_one_a_success_up_to_all_transfers(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = hosts.find("a")
    prove(hosts, host, 10)
    assert host.cap == 26
    prove(hosts, host, 100)
    assert host.cap == 64
    filled(hosts, "a", 100)
    assert len(take_all(hosts)) == 64


def test_host_that_may_have_all_transfers_holds_nothing_back(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = hosts.find("a")
    prove(hosts, host, 48)
    filled(hosts, "a", 500)
    take_all(hosts)
    assert (hosts.active, hosts.queued, hosts.ready) == (64, 436, 436)
    clock.now += 2.1
    hosts.sweep()
    assert take_all(hosts) == [], "its cap holds although a stalled host's transfers are not counted"
    assert (hosts.queued, hosts.ready) == (64, 0)
    hosts.finish(host, Verdict.GOOD)
    assert len(take_all(hosts)) == 1


def test_cap_is_halved_by_a_failure_and_never_below_one(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = hosts.find("a")
    caps = []
    for _ in range(6):
        fail(hosts, host)
        caps.append(host.cap)
    assert caps == [8, 4, 2, 1, 1, 1]


def test_neutral_end_changes_nothing(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = hosts.find("a")
    fail(hosts, host, 2)
    hosts.add(host, "x")
    hosts.take()
    hosts.finish(host, Verdict.NEUTRAL, "tls_error")
    assert (host.cap, host.failures) == (4, 2)


def test_hosts_take_turns(clock: Clock) -> None:
    hosts = Hosts(12, clock)
    for name in "abc":
        prove(hosts, hosts.find(name), 20)
    for name in "abc":
        filled(hosts, name, 50)
    counts = Counter(host.key for host, _ in take_all(hosts))
    assert counts == {"a": 4, "b": 4, "c": 4}


def test_one_host_keeps_its_order(clock: Clock) -> None:
    hosts = Hosts(8, clock)
    filled(hosts, "a", 5)
    assert [item for _, item in take_all(hosts)] == [("a", number) for number in range(5)]


def test_silent_host_leaves_transfers_to_others(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    healthy = hosts.find("healthy")
    prove(hosts, healthy, 60)
    filled(hosts, "silent", 500)
    filled(hosts, "healthy", 500)
    counts = Counter(host.key for host, _ in take_all(hosts))
    assert counts == {"silent": 16, "healthy": 48}


def test_many_unproven_hosts_leave_a_share_to_proven_ones(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    prove(hosts, hosts.find("healthy"), 60)
    for number in range(40):
        filled(hosts, f"silent-{number}", 10)
    assert len(take_all(hosts)) == 48
    filled(hosts, "healthy", 500)
    assert Counter(host.key for host, _ in take_all(hosts))["healthy"] == 16


def test_proven_host_that_falls_silent_with_all_transfers_stops_nobody(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    prove(hosts, hosts.find("was good"), 60)
    prove(hosts, hosts.find("healthy"), 60)
    filled(hosts, "was good", 200)
    assert len(take_all(hosts)) == 64
    filled(hosts, "healthy", 200)
    assert take_all(hosts) == []
    clock.now += 2.1
    hosts.sweep()
    assert Counter(host.key for host, _ in take_all(hosts)) == {"healthy": 64}
    assert hosts.active == 128, "at most twice the usual number"


def test_queue_of_a_stalled_host_is_handed_back_beyond_a_bound(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = filled(hosts, "silent", 200)
    take_all(hosts)
    hosts.sweep()
    assert hosts.take_rejected() == []
    clock.now += 2.1
    hosts.sweep()
    rejected = hosts.take_rejected()
    assert len(rejected) == 200 - 16 - STALL_QUEUE
    assert all(isinstance(delay, float) and 4 <= delay <= 6 for _, delay in rejected)
    assert len({delay for _, delay in rejected}) > 10, "jittered"
    hosts.add(host, "one more")
    assert [item for item, _ in hosts.take_rejected()] == ["one more"]
    assert hosts.queued == len(host.queue) == STALL_QUEUE


def test_stalled_host_that_answers_again_is_trusted_again(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = filled(hosts, "a", 200)
    take_all(hosts)
    clock.now += 2.1
    hosts.sweep()
    hosts.finish(host, Verdict.GOOD)
    assert not host.is_stalled
    hosts.take_rejected()
    hosts.add(host, "one more")
    assert hosts.take_rejected() == []


def test_breaker_opens_after_failures_in_a_row_and_says_so(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = hosts.find("a")
    fail(hosts, host, BREAK_AFTER_FAILURES - 1)
    filled(hosts, "a", 30)
    taken = take_all(hosts)
    assert len(taken) == 1
    hosts.finish(host, Verdict.BAD, "http_503")
    rejected = hosts.take_rejected()
    assert len(rejected) == 29 and hosts.queued == 0
    error = rejected[0][1]
    assert isinstance(error, FetchError)
    assert (error.code, error.transient, error.retry_after) == ("http_503", True, 5.0)
    assert "held back after 10 failures in a row" in error.message
    clock.now += 1
    hosts.add(host, "meanwhile")
    [(item, error)] = hosts.take_rejected()
    assert item == "meanwhile" and isinstance(error, FetchError) and error.retry_after == 4.0


def test_success_in_between_keeps_the_breaker_closed(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = hosts.find("a")
    for _ in range(5):
        fail(hosts, host, BREAK_AFTER_FAILURES - 1)
        prove(hosts, host)
    assert hosts.take_rejected() == []


def test_half_open_breaker_lets_one_probe_through(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = hosts.find("a")
    prove(hosts, host, 60)
    fail(hosts, host, BREAK_AFTER_FAILURES)
    clock.now += 5
    filled(hosts, "a", 20)
    assert (len(take_all(hosts)), hosts.ready, hosts.queued) == (1, 0, 19)
    hosts.finish(host, Verdict.GOOD)
    assert host.open_seconds == 0
    assert len(take_all(hosts)) == host.cap == 2


def test_failed_probe_doubles_the_wait_up_to_a_minute(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = hosts.find("a")
    fail(hosts, host, BREAK_AFTER_FAILURES)
    waits = [host.open_seconds]
    for _ in range(5):
        clock.now += host.open_seconds
        fail(hosts, host)
        waits.append(host.open_seconds)
    assert waits == [5, 10, 20, 40, 60, 60]


def test_stragglers_neither_reopen_nor_lengthen_an_open_breaker(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = hosts.find("a")
    prove(hosts, host, 60)
    filled(hosts, "a", 64)
    assert len(take_all(hosts)) == 64
    for _ in range(64):
        hosts.finish(host, Verdict.BAD, "connect_error")
    assert (host.open_seconds, host.failures) == (5, BREAK_AFTER_FAILURES)


def test_straggler_that_succeeds_closes_the_breaker(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = filled(hosts, "a", 16)
    take_all(hosts)
    for _ in range(BREAK_AFTER_FAILURES):
        hosts.finish(host, Verdict.BAD, "timeout")
    hosts.finish(host, Verdict.GOOD)
    hosts.add(host, "next")
    assert hosts.take_rejected() == [] and hosts.ready == 0  # five stragglers are still more than the cap
    for _ in range(5):
        hosts.finish(host, Verdict.GOOD)
    assert len(take_all(hosts)) == 1


def test_unreachable_host_waits_without_a_transfer(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    host = filled(hosts, "a", 3)
    hosts.set_reachable(host, False)
    assert take_all(hosts) == [] and (hosts.queued, hosts.ready) == (3, 0)
    hosts.set_reachable(host, True)
    assert len(take_all(hosts)) == 3


def test_put_back_undoes_a_take(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    filled(hosts, "a", 2)
    taken = hosts.take()
    assert taken is not None
    hosts.put_back(*taken)
    assert (hosts.active, hosts.queued, hosts.ready) == (0, 2, 2)
    assert [item for _, item in take_all(hosts)] == [("a", 0), ("a", 1)]


def test_forget_takes_only_what_is_named(clock: Clock) -> None:
    hosts = Hosts(64, clock)
    filled(hosts, "a", 4)
    filled(hosts, "b", 4)
    assert hosts.forget(lambda item: item[1] >= 2) == [("a", 2), ("a", 3), ("b", 2), ("b", 3)]
    assert (hosts.queued, hosts.ready) == (4, 4)
    assert len(take_all(hosts)) == 4


def test_table_drops_idle_hosts_and_keeps_busy_and_broken_ones(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_module, "MOST_HOSTS", 50)
    hosts = Hosts(64, clock)
    broken, busy = hosts.find("broken"), filled(hosts, "busy", 1)
    take_all(hosts)
    fail(hosts, broken, BREAK_AFTER_FAILURES)
    for number in range(500):
        prove(hosts, hosts.find(number))
    assert len(hosts) <= 50
    assert hosts.find("broken") is broken and hosts.find("busy") is busy


def test_counts_hold_whatever_happens(clock: Clock) -> None:
    """A long random walk: what was put in comes out once, and the counts agree with the queues."""
    chance = random.Random(7)
    hosts = Hosts(8, clock)
    out: list[object] = []
    running: list[tuple[Host, object]] = []
    added = 0
    for _ in range(20_000):
        clock.now += chance.random() / 10
        step = chance.random()
        if step < 0.4:
            hosts.add(hosts.find(chance.randrange(6)), added, is_first=chance.random() < 0.1)
            added += 1
        elif step < 0.6 and (taken := hosts.take()) is not None:
            running.append(taken)
        elif step < 0.9 and running:
            host, item = running.pop(chance.randrange(len(running)))
            hosts.finish(host, chance.choice(list(Verdict) if host.key else [Verdict.BAD]), "timeout")
            out.append(item)
        elif step < 0.95:
            hosts.set_reachable(hosts.find(chance.randrange(6)), chance.random() < 0.7)
        else:
            hosts.sweep()
        out += [item for item, _ in hosts.take_rejected()]
        table = [hosts.find(key) for key in range(6)]
        assert hosts.active == len(running) == sum(host.active for host in table) <= 16
        assert hosts.queued == sum(len(host.queue) for host in table)
        assert hosts.ready == sum(host.ready for host in table)
    left = hosts.forget(lambda _: True)
    assert sorted([*out, *left, *(item for _, item in running)]) == list(range(added))
