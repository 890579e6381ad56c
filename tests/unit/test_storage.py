"""Files on a disk and in a real S3 server: the same behaviour, whatever fails."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import requests

from app import storage
from app.errors import SettingError, StorageError, StoredFileDamagedError, StoredFileMissingError
from app.storage import Credentials, LocalStorage, Storage
from config import Settings
from testbed.s3 import ACCESS_KEY, S3, SECRET_KEY

ACCOUNT = Credentials(ACCESS_KEY, SECRET_KEY)
# Over one part of an upload to S3.
LARGE = [os.urandom(1_000_000) for _ in range(19)]


@pytest.fixture(params=["local", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        return storage.open_storage(request.getfixturevalue("s3").url("some/prefix"), ACCOUNT)
    return storage.open_storage((tmp_path / "a folder").as_uri(), Credentials())


def new_key(suffix: str = ".jpg") -> str:
    return storage.new_key("images", suffix)


def keys(files: Storage) -> set[str]:
    return {stat.key for stat in files.list("images")}


@pytest.mark.parametrize("body", [b"", b"abc", b"".join(LARGE)], ids=["empty", "small", "large"])
def test_what_was_put_is_read(files: Storage, body: bytes) -> None:
    key = new_key()
    stored = files.put(key, body)
    assert (stored.bytes, stored.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert files.read(key, sha256=stored.sha256) == body
    assert files.stat(key).bytes == len(body)
    assert [stat.bytes for stat in files.list("images") if stat.key == key] == [len(body)]


def test_a_stream_is_put_piece_by_piece(files: Storage) -> None:
    key = new_key(".zip")
    taken = []
    stored = files.put(key, (taken.append(len(piece)) or piece for piece in [b"", b"12", *LARGE]))
    assert len(taken) == len(LARGE) + 2
    assert stored.bytes == sum(taken)
    assert b"".join(files.stream(key)) == b"12" + b"".join(LARGE)


@pytest.mark.parametrize("range_", [(0, None), (0, 3), (2, 5), (9, 10), (4, None), (3, 3), (8, 99)])
def test_a_range_is_read(files: Storage, range_: tuple[int, int | None]) -> None:
    key = new_key()
    files.put(key, b"0123456789")
    assert b"".join(files.stream(key, *range_)) == b"0123456789"[slice(*range_)]


def test_a_file_is_replaced_as_a_whole(files: Storage) -> None:
    key = new_key()
    files.put(key, b"old")
    old = files.stream(key)
    files.put(key, b"newer")
    assert files.read(key) == b"newer"
    assert b"".join(old) == b"old"


@pytest.mark.parametrize("pieces", [1, 19], ids=["small", "large"])
def test_a_writer_that_fails_leaves_nothing(files: Storage, pieces: int) -> None:
    def breaks_off() -> Iterator[bytes]:
        yield from LARGE[:pieces]
        raise KeyError("the client went away")

    before = keys(files)
    with pytest.raises(KeyError, match="the client went away"):
        files.put(new_key(), breaks_off())
    assert keys(files) == before
    assert files.remove_unfinished(datetime.max) == 0


def test_deleting_takes_what_is_there(files: Storage) -> None:
    stays, goes, never = new_key(), new_key(), new_key()
    files.put(stays, b"1")
    files.put(goes, b"2")
    files.delete([goes, never])
    files.delete([])
    assert stays in keys(files)
    assert goes not in keys(files)
    files.delete([stays])


def test_a_file_that_is_not_there_says_so(files: Storage) -> None:
    key = new_key()
    for ask in (files.read, files.stat, files.stream):
        with pytest.raises(StoredFileMissingError):
            ask(key)
    assert list(files.list("nothing-here")) == []


def test_a_damaged_file_is_noticed(files: Storage) -> None:
    key = new_key()
    stored = files.put(key, b"what was meant")
    files.put(key, b"what is there!")
    with pytest.raises(StoredFileDamagedError):
        files.read(key, sha256=stored.sha256)


@pytest.mark.parametrize(
    "key",
    ["", "x", "/etc/passwd", "images/../x", "../x", "images/.hidden", "images//x", "images/x/", "images/x\n",
     "Images/x", "images/x.jpg/y", "images\\x", "images/x\0", "images/ä", "a/" * 200 + "b", "images/x.toolongasuffix"],
)  # fmt: skip
def test_only_keys_of_our_making_are_taken(files: Storage, key: str) -> None:
    assert not storage.is_key(key)
    for use in (lambda: files.put(key, b"x"), lambda: files.read(key), lambda: files.stat(key),
                lambda: files.delete([key]), lambda: files.presigned(key, seconds=60)):  # fmt: skip
        if isinstance(files, LocalStorage) and use.__code__.co_names[-1] == "presigned":
            continue
        with pytest.raises(ValueError, match="not a key"):
            use()


def test_keys_are_random_and_spread() -> None:
    made = {new_key() for _ in range(2000)}
    assert len(made) == 2000
    assert all(storage.is_key(key) for key in made)
    assert len({key.split("/")[1] for key in made}) > 200


def test_checking_writes_nothing(files: Storage, tmp_path: Path) -> None:
    files.check()
    assert list(tmp_path.iterdir()) == []


def test_ages_go_by_the_clock_of_the_storage(files: Storage) -> None:
    before = files.now()
    key = new_key()
    files.put(key, b"x")
    assert timedelta(seconds=-1) <= files.stat(key).modified_at - before < timedelta(minutes=1)
    assert list(files.list("clock")) == []


# A disk


def test_a_writer_that_is_killed_leaves_no_file_and_what_it_leaves_is_removed(tmp_path: Path) -> None:
    program = (
        "import os, sys, itertools\n"
        "from pathlib import Path\n"
        "from app.storage import LocalStorage, new_key\n"
        "def pieces():\n"
        "    yield bytes(100000)\n"
        "    os.kill(os.getpid(), 9)\n"
        "LocalStorage(Path(sys.argv[1])).put(new_key('images'), pieces())\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert ended.returncode == -9
    files = LocalStorage(tmp_path)
    assert keys(files) == set()
    assert files.remove_unfinished(files.now() - timedelta(hours=1)) == 0
    assert files.remove_unfinished(datetime.max) == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_an_error_and_never_half_a_file(small_disk: Path) -> None:
    files = LocalStorage(small_disk)
    kept = {}
    with pytest.raises(StorageError, match="the disk is full") as failed:
        for piece in LARGE:
            key = new_key()
            files.put(key, piece)
            kept[key] = piece
    assert failed.value.transient
    assert failed.value.code == "storage_error"
    assert len(kept) > 5
    assert keys(files) == set(kept)
    assert all(files.read(key) == body for key, body in kept.items())
    # Once there is room again, the same storage goes on.
    files.delete(list(kept)[:2])
    assert files.put(new_key(), LARGE[0]).bytes == len(LARGE[0])


def test_a_folder_that_cannot_be_made_is_an_error_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    files = LocalStorage(tmp_path / "file" / "files")
    with pytest.raises(StorageError) as failed:
        files.put(new_key(), b"x")
    assert str(tmp_path) not in str(failed.value)
    with pytest.raises(StorageError):
        files.check()


# S3


def test_a_presigned_address_gives_the_file_its_type_and_nothing_without_its_signature(s3: S3) -> None:
    files = storage.open_storage(s3.url(), ACCOUNT)
    key = new_key()
    files.put(key, b"a photo", content_type="image/jpeg")
    address = files.presigned(key, seconds=60)
    assert address is not None
    answer = requests.get(address, timeout=10)
    assert (answer.content, answer.headers["Content-Type"]) == (b"a photo", "image/jpeg")
    assert requests.get(address.partition("?")[0], timeout=10).status_code == 403
    assert SECRET_KEY not in address


def test_two_prefixes_do_not_see_each_other(s3: S3) -> None:
    one, other = (storage.open_storage(s3.url(prefix), ACCOUNT) for prefix in ("one", "other"))
    key = new_key()
    one.put(key, b"x")
    assert f"one/{key}" in s3.find()
    assert keys(other) == set()
    with pytest.raises(StoredFileMissingError):
        other.read(key)


def test_a_wrong_secret_is_an_error_that_tells_no_secret(s3: S3) -> None:
    files = storage.open_storage(s3.url(), Credentials(ACCESS_KEY, "not-the-secret"))
    for use in (files.check, lambda: files.put(new_key(), b"x"), lambda: files.read(new_key())):
        with pytest.raises(StorageError, match="refuses the account") as failed:
            use()
        assert "not-the-secret" not in str(failed.value) + repr(files._credentials)


def test_a_server_that_is_away_is_an_error_and_one_that_is_back_is_used_again(s3: S3) -> None:
    files = storage.open_storage(s3.url(), ACCOUNT)
    key = new_key()
    files.put(key, b"before")
    s3.kill()
    try:
        for use in (files.check, lambda: files.read(key), lambda: files.put(new_key(), b"x")):
            with pytest.raises(StorageError) as failed:
                use()
            assert failed.value.transient
    finally:
        s3.start()
    files.check()
    assert files.read(key) == b"before"


def _use_after_fork(files: Storage, key: str) -> None:
    try:
        files.read(key)
    except RuntimeError as error:
        os._exit(7 if "forked" in str(error) else 1)
    os._exit(0)


def test_use_after_a_fork_is_refused_instead_of_hanging(s3: S3) -> None:
    files = storage.open_storage(s3.url(), ACCOUNT)
    key = new_key()
    files.put(key, b"x")
    child = multiprocessing.get_context("fork").Process(target=_use_after_fork, args=(files, key))
    child.start()
    child.join(20)
    assert child.exitcode == 7


# The setting


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("/srv/files", "must be file:///"),
        ("file://srv/files", "must be file:///"),
        ("file:relative", "must be file:///"),
        ("http://bucket/x", "must be file:///"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3://AKIA:secret@bucket/x", "must not hold credentials"),
        ("s3://bucket?endpont=https://x", "not endpont"),
        ("s3://bucket?endpoint=minio:9000", "an endpoint that is not"),
        ("s3://bucket?endpoint=http://a:b@minio", "an endpoint that is not"),
    ],
)
def test_a_url_that_cannot_be_used_stops_the_start(url: str, reason: str) -> None:
    with pytest.raises(SettingError, match=r"STORAGE_URL=\(hidden\)") as stopped:
        Settings.from_env({"STORAGE_URL": url})
    assert reason in str(stopped.value)
    assert "secret" not in str(stopped.value)


def test_files_lie_in_the_data_folder_unless_told_otherwise(tmp_path: Path) -> None:
    assert Settings.from_env({}, DATA_DIR=tmp_path / "a b").storage_url == (tmp_path / "a b" / "files").as_uri()
    assert storage.open_storage((tmp_path / "a b").as_uri(), Credentials()).name == str(tmp_path / "a b")
