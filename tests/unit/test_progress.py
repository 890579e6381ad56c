"""When a worker counts as stuck."""

from __future__ import annotations

from app.domain.workers import BEAT_SECONDS, Progress


def beats(progress: Progress, number: int, *, is_holding: bool = True, settled: int = 7) -> list[bool]:
    return [progress.is_stuck(is_holding=is_holding, settled=settled) for _ in range(number)]


def test_worker_that_holds_work_and_writes_nothing_is_stuck_after_its_time() -> None:
    assert beats(Progress(4 * BEAT_SECONDS), 6) == [False] * 4 + [True] * 2


def test_each_result_gives_it_its_time_anew() -> None:
    progress = Progress(4 * BEAT_SECONDS)
    assert not any(beats(progress, 4, settled=1) + beats(progress, 4, settled=2))


def test_worker_with_empty_hands_is_idle() -> None:
    progress = Progress(4 * BEAT_SECONDS)
    assert not any(beats(progress, 100, is_holding=False) + beats(progress, 3))
