"""Requests are counted in Redis, and in memory while it is away."""

from __future__ import annotations

import time

import pytest

from app.domain import rates
from app.domain.rates import Counter, Memory
from app.errors import SettingError
from config import Settings
from testbed.redis import Redis


def test_processes_count_together_and_a_window_ends(redis_server: Redis) -> None:
    one, other = Counter(redis_server.url), Counter(redis_server.url)
    assert [one.count("unit:1", 60).used, other.count("unit:1", 60).used, one.count("unit:1", 60).used] == [1, 2, 3]
    assert other.count("unit:2", 60).used == 1
    assert 0 < one.count("unit:1", 60).seconds_left <= 60
    one.count("brief", 1)
    deadline = time.monotonic() + 10
    while one.count("brief", 1).used > 1:
        assert time.monotonic() < deadline


def test_a_count_without_an_end_gets_one(redis_server: Redis) -> None:
    counter = Counter(redis_server.url)
    counter._redis.set(rates.PREFIX + "endless", 5)
    assert counter.count("endless", 60) == (6, 60.0)
    assert 0 < counter._redis.ttl(rates.PREFIX + "endless") <= 60


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_memory_takes_over_while_redis_is_away(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Redis() as server:
        counter = Counter(server.url)
        assert [counter.count("unit:1", 60).used for _ in range(3)] == [1, 2, 3]
        getattr(server, fault)()
        start = time.monotonic()
        # Of many requests few wait for it.
        assert [counter.count("unit:1", 60).used for _ in range(200)] == list(range(1, 201))
        assert time.monotonic() - start < 10
        server.thaw() if fault == "freeze" else server.start()
        monkeypatch.setattr(counter, "_away_until", 0.0)
        # Not what memory counted; a frozen server still does what it was told meanwhile.
        assert counter.count("unit:1", 60).used < 10


def test_a_name_in_memory_starts_again_and_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    memory = Memory(clock=lambda: now[0])
    assert [memory.count("a", 60) for _ in range(2)] == [(1, 60.0), (2, 60.0)]
    now[0] += 59
    assert memory.count("a", 60) == (3, 1.0)
    now[0] += 2
    assert memory.count("a", 60) == (1, 60.0)
    monkeypatch.setattr(rates, "MOST_NAMES", 10)
    for number in range(100):
        memory.count(f"address:{number}", 60)
    assert len(memory._windows) <= 10


@pytest.mark.parametrize(
    "values",
    [
        {"RATE_LIMIT": "many"},
        {"RATE_LIMIT": "0/minute"},
        {"RATE_LIMIT": "-1/minute"},
        {"RATE_LIMIT_NO_KEY": "5/fortnight"},
        {"QUEUE_MAX_IMAGES": "0"},
        {"QUEUE_MAX_IMAGES": "100"},
        {"QUEUE_MAX_IMAGES_OF_OWNER": "100"},
    ],
)
def test_a_bound_that_cannot_be_is_refused_at_the_start(values: dict[str, str]) -> None:
    with pytest.raises(SettingError) as refused:
        Settings.from_env(values)
    assert next(iter(values)).removesuffix("_OF_OWNER") in str(refused.value)


def test_rates_are_read_in_their_units() -> None:
    settings = Settings.from_env({"RATE_LIMIT": " 100 / second ", "RATE_LIMIT_NO_KEY": "off"})
    assert (settings.rate_of_a_key, settings.rate_without_key) == ((100, 1), None)
