"""Children that crash, hang and hunger: each is its own image's result."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.decoding import ChildOptions, Children, children
from app.errors import DecodeError
from app.processors import perimeter
from app.processors.contract import Missing
from app.processors.running import Worked
from config import IMAGE_FORMATS, without_settings
from testbed.processes import is_running, wait_for
from tests.odd import crash, eat, hang, kill, model

BLACK, ONE, GREY = 0, 1, 90
SECONDS = 60


def picture(pixel: int, size: tuple[int, int] = (8, 6)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, pixel).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def make() -> Iterator[Callable[..., Children]]:
    made: list[Children] = []

    def start(processes: int = 1, **limits: Any) -> Children:
        options = ChildOptions(
            processes=processes,
            formats=tuple(IMAGE_FORMATS.split(",")),
            max_pixels=50_000_000,
            environment=without_settings(),
            **{"timeout_seconds": 1, "memory_megabytes": 600} | limits,
        )
        made.append(Children(options))
        return made[-1]

    yield start
    for pool in made:
        pool.close()


def work_on(pool: Children, bodies: list[bytes], *wanted: Any) -> list[Any]:
    """Results by body, all handed over at once: the error's code, or what each processor found."""
    results: dict[int, Any] = {}
    for number, body in enumerate(bodies):
        pool.submit(body, wanted, lambda result, _seconds, number=number: results.setdefault(number, result))
    wait_for(lambda: len(results) == len(bodies), SECONDS, what="results")
    return [shown(results[number]) for number in range(len(bodies))]


def shown(result: Worked | DecodeError) -> Any:
    if isinstance(result, DecodeError):
        return result.code
    found = json.loads(result.results or "{}")
    return {name: entry.get("result", entry.get("error", {}).get("code")) for name, entry in found.items()}


def test_image_is_measured_and_worked_on_in_another_process(make: Callable[..., Children]) -> None:
    pool = make()
    found = pool.work_on(picture(GREY), [perimeter, kill, Missing("gone")])
    assert found.measures == {"width": 8, "height": 6, "perimeter": 28, "format": "PNG"}
    results = json.loads(found.results or "")
    assert results["kill"]["result"]["parent"] == os.getpid() and results["kill"]["result"]["pid"] != os.getpid()
    assert results["gone"]["error"]["code"] == "unknown_processor"
    with pytest.raises(DecodeError, match="not_an_image"):
        pool.work_on(b"<html>", [])


@pytest.mark.parametrize("processor", [crash, kill])
def test_image_on_which_three_children_die_is_given_up_and_its_neighbours_lose_nothing(
    make: Callable[..., Children], processor: Any
) -> None:
    bodies = [picture(BLACK if number in (2, 5) else GREY) for number in range(8)]
    found = work_on(make(), bodies, processor)
    assert [number for number, result in enumerate(found) if result == "decoder_crashed"] == [2, 5]
    assert all(isinstance(result, dict) for number, result in enumerate(found) if number not in (2, 5))


def test_message_says_how_the_child_died_and_at_what(make: Callable[..., Children]) -> None:
    with pytest.raises(DecodeError, match="died 3 times, the last time by signal SIGSEGV at crash"):
        make().work_on(picture(BLACK), [crash])


def test_hang_in_computing_or_waiting_is_that_images_result(make: Callable[..., Children]) -> None:
    found = work_on(make(), [picture(BLACK), picture(GREY), picture(ONE), picture(GREY)], hang)
    assert found == ["decoder_timeout", {"hang": "alive"}, "decoder_timeout", {"hang": "alive"}]


def test_hunger_is_that_images_result_and_what_others_have_eaten_is_not(make: Callable[..., Children]) -> None:
    found = work_on(make(), [*(picture(GREY) for _ in range(25)), picture(BLACK), picture(GREY)], eat)
    assert found[25] == {"eat": "out_of_memory"}
    # 25 times 30 MB are more than the child may have: it was started anew, and the image tried again.
    assert all(isinstance(result["eat"], int) for number, result in enumerate(found) if number != 25)
    assert found[24]["eat"] < 25


def test_pixels_that_do_not_fit_are_an_error_of_the_image(make: Callable[..., Children]) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (7000, 7000), (90, 90, 90, 90)).save(file, "PNG", compress_level=1)
    found = work_on(make(memory_megabytes=280), [file.getvalue(), picture(GREY)], crash)
    assert found == ["out_of_memory", {"crash": "alive"}]


def test_processor_that_opens_images_by_itself_is_held_to_the_same_limits(make: Callable[..., Children]) -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    bomb = io.BytesIO()
    Image.new("1", (8000, 8000)).save(bomb, "PNG")
    assert work_on(make(), [postscript, bomb.getvalue()], kill) == ["not_an_image", "too_many_pixels"]


def test_images_that_wait_together_go_to_the_model_together(make: Callable[..., Children]) -> None:
    pool = make()
    work_on(pool, [picture(GREY)], model)  # so that the child is there
    found = [result["model"] for result in work_on(pool, [picture(10 + number) for number in range(30)], model)]
    assert [each["pixel"] for each in found] == [10 + number for number in range(30)]
    assert max(each["batch"] for each in found) == ChildOptions().batch
    assert {each["loads"] for each in found} == {1} and len({each["pid"] for each in found}) == 1


def test_batch_that_kills_its_child_is_taken_apart(make: Callable[..., Children]) -> None:
    found = work_on(make(), [picture(BLACK if number == 3 else 10 + number) for number in range(8)], model)
    assert [result if isinstance(result, str) else result["model"]["pixel"] for result in found] == [
        10, 11, 12, "decoder_crashed", 14, 15, 16, 17
    ]  # fmt: skip


def test_children_are_bounded_and_started_when_there_is_work(make: Callable[..., Children]) -> None:
    before = threading.active_count()
    pool = make(processes=2)
    assert threading.active_count() == before
    pids = {result["kill"]["pid"] for result in work_on(pool, [picture(GREY)] * 40, kill)}
    assert 1 <= len(pids) <= 2
    pool.close()
    wait_for(lambda: not any(map(is_running, pids)), SECONDS, what="the children's end")


def test_image_need_not_wait_for_one_that_hangs_while_there_may_be_another_child(make: Callable[..., Children]) -> None:
    pool = make(processes=2)
    work_on(pool, [picture(GREY)], hang)
    ended: list[str] = []
    for name, pixel in (("hanging", ONE), ("good", GREY)):
        pool.submit(picture(pixel), [hang], lambda _result, _seconds, name=name: ended.append(name))
    wait_for(lambda: len(ended) == 2, SECONDS, what="results")
    assert ended == ["good", "hanging"]


def test_child_that_is_idle_ends_and_another_is_started(
    make: Callable[..., Children], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "IDLE_SECONDS", 0.1)
    pool = make()
    [first] = work_on(pool, [picture(GREY)], kill)
    wait_for(lambda: not is_running(first["kill"]["pid"]), SECONDS, what="the idle child's end")
    [second] = work_on(pool, [picture(GREY)], kill)
    assert second["kill"]["pid"] != first["kill"]["pid"]


def test_child_ends_after_so_many_images(make: Callable[..., Children], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "IMAGES_A_CHILD", 3)
    pids = [result["kill"]["pid"] for result in work_on(make(), [picture(GREY)] * 6, kill)]
    assert pids == [pids[0]] * 3 + [pids[3]] * 3 and pids[0] != pids[3]


def test_no_child_is_no_fault_of_the_image(make: Callable[..., Children]) -> None:
    with pytest.raises(DecodeError) as caught:
        make(memory_megabytes=20).work_on(picture(GREY), [kill])
    assert caught.value.code == "no_decoder" and caught.value.transient


PARENT = """
import os, sys, time
sys.path[:0] = [{project!r}]
from app.decoding import ChildOptions, Children
from tests.odd import hang, kill
pool = Children(ChildOptions(formats=("PNG",), max_pixels=10**6, environment=dict(os.environ), timeout_seconds=600))
body = open({file!r}, "rb").read()
print(pool.work_on(body, [kill]).results, flush=True)
pool.submit(body, [hang], print) if {busy} else None
time.sleep(600)
"""


@pytest.mark.parametrize("busy", [False, True])
def test_child_dies_with_its_parent(tmp_path: Path, busy: bool) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(picture(ONE if busy else GREY))
    code = PARENT.format(project=str(Path(__file__).parents[2]), file=str(file), busy=busy)
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        pid = json.loads(parent.stdout.readline())["kill"]["result"]["pid"]
        if busy:
            time.sleep(0.2)
        assert is_running(pid)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not is_running(pid), SECONDS, what="the child's end")


def test_child_has_neither_our_sockets_nor_our_passwords(
    make: Callable[..., Children], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql+pymysql://root:secret@127.0.0.1/x")
    with open(os.devnull) as file:
        os.set_inheritable(file.fileno(), True)
        [found] = work_on(make(), [picture(GREY)], kill)
        pid = found["kill"]["pid"]
        opened = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    assert sum(name.startswith("socket:") for name in opened) == 1
    assert "secret" not in Path(f"/proc/{pid}/environ").read_text()
