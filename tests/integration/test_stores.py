"""Loading the store master, on both databases, and the command that does it."""

from __future__ import annotations

import io
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select

from app import extensions
from app.domain import stores
from app.domain.stores import LoadReport
from app.errors import InvalidRequestError
from app.extensions import db
from app.models import Store
from app.storefile import Refusal
from db_create import main
from testbed.mariadb import MariaDB

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE = PROJECT / "data" / "stores_sample.csv"
HEADER = "AreaCode,StoreName,StoreID\n"


def load(app: Flask, lines: str) -> LoadReport:
    with app.app_context():
        return stores.load(io.BytesIO((HEADER + lines).encode()))


def stored(app: Flask) -> dict[str, Store]:
    with app.app_context():
        return {store.id: store for store in db.session.scalars(select(Store))}


def test_load_adds_changes_and_leaves_the_rest(app: Flask) -> None:
    assert load(app, "1,A,S1\n2,B,S2\n3,C,S3\n") == LoadReport(added=3)
    before = stored(app)
    assert load(app, "1,A,S1\n2,B 2,S2\n9,D,S4\n") == LoadReport(added=1, changed=1, unchanged=1)
    after = stored(app)
    assert {(store.id, store.area, store.name) for store in after.values()} == {
        ("S1", "1", "A"), ("S2", "2", "B 2"), ("S3", "3", "C"), ("S4", "9", "D"),
    }  # fmt: skip
    assert after["S1"].updated_at == before["S1"].updated_at
    assert after["S2"].created_at == before["S2"].created_at
    assert after["S2"].updated_at > before["S2"].updated_at


def test_load_reports_the_lines_it_refused_in_their_order(app: Flask) -> None:
    report = load(app, "1,A,S1\n2,B,\n3\n4,D,S1\n")
    assert report == LoadReport(
        added=1,
        refused=[
            Refusal(2, "store 'S1' stands again in line 5, which counts"),
            Refusal(3, "StoreID is empty"),
            Refusal(4, "too few fields: 1 where the header has 3"),
        ],
    )
    assert stored(app)["S1"].name == "D"


def test_ids_differ_by_case_and_accent_and_names_hold_any_script(app: Flask) -> None:
    assert load(app, "1,राम 🛒,s1\n1,B,S1\n1,C,Ś1\n").added == 3
    assert stored(app)["s1"].name == "राम 🛒"


def test_a_file_without_a_header_loads_nothing(app: Flask) -> None:
    with app.app_context(), pytest.raises(InvalidRequestError, match="the store master is empty"):
        stores.load(io.BytesIO())


def test_two_loads_at_once_end_with_every_store_once(app: Flask) -> None:
    files = ["".join(f"{n % 12},{name} {n},S{n:05}\n" for n in range(3000)) for name in ("A", "B")]
    threads = [threading.Thread(target=load, args=(app, lines)) for lines in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored(app)) == 3000


def db_create(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROJECT / "db_create.py"), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=os.environ | environment, stdout=pipe, stderr=pipe, text=True)


def ended(command: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, error = command.communicate(timeout=60)
    return command.returncode, out, error


@pytest.fixture(params=["sqlite", "mariadb"])
def missing_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/folder/stores.db"
    server: MariaDB = request.getfixturevalue("mariadb")
    return server.create_database("throwaway").replace("/throwaway", f"/missing%60{uuid.uuid4().hex}")


def test_db_create_makes_the_database_and_loads_it_twice(missing_database: str, tmp_path: Path) -> None:
    master = tmp_path / "master.csv"
    master.write_text(SAMPLE.read_text() + "710006,NO ID,\n")
    code, out, _ = ended(db_create("--stores", str(master), DATABASE_URL=missing_database))
    assert code == 0
    assert out.splitlines()[1:] == [
        "master.csv, line 402 refused: StoreID is empty",
        "stores: 400 added, 0 changed, 0 unchanged, 1 lines refused",
    ]
    code, out, _ = ended(db_create("--stores", str(SAMPLE), DATABASE_URL=missing_database))
    assert (code, out.splitlines()[-1]) == (0, "stores: 0 added, 0 changed, 400 unchanged, 0 lines refused")


def test_db_create_by_several_at_once_makes_one_database(missing_database: str) -> None:
    commands = [db_create("--stores", str(SAMPLE), DATABASE_URL=missing_database) for _ in range(3)]
    answers = [ended(command) for command in commands]
    assert [code for code, _, _ in answers] == [0, 0, 0], answers
    assert ended(db_create("--stores", str(SAMPLE), DATABASE_URL=missing_database))[1].endswith(
        "stores: 0 added, 0 changed, 400 unchanged, 0 lines refused\n"
    )


@pytest.mark.parametrize(
    ("stores_file", "database", "sentence"),
    [
        ("/no/such.csv", "", "there is no file /no/such.csv"),
        ("pyproject.toml", "", "line 1 of the store master must name its columns"),
        ("", "mysql+pymysql://u:secret@127.0.0.1:1/db", "the database at 127.0.0.1 cannot be reached"),
        ("", "mysql+pymysql://u:secret@127.0.0.1:1/", "DATABASE_URL names no database"),
        ("", "sqlite:////proc/none/x.db", "/proc/none: No such file or directory"),
        ("", "postgresql://u:secret@h/db", "DATABASE_URL=(hidden): speaks postgresql"),
    ],
)
def test_db_create_says_in_one_sentence_what_it_cannot(
    *,
    tmp_path: Path,
    stores_file: str,
    database: str,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["db_create.py", *(("--stores", str(PROJECT / stores_file)) if stores_file else ())]
    )
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert main() == 1
    error = capsys.readouterr().err
    assert error.startswith(f"db_create: {sentence}")
    assert error.count("\n") == 1
    assert "secret" not in error


def test_the_sample_is_what_its_generator_writes(tmp_path: Path) -> None:
    copy = tmp_path / "make_stores.py"
    copy.write_text((PROJECT / "data" / "make_stores.py").read_text())
    subprocess.run([sys.executable, str(copy)], check=True)
    assert (tmp_path / SAMPLE.name).read_bytes() == SAMPLE.read_bytes()


def test_processes_that_open_a_new_file_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """SQLite itself does not, where it is to switch to WAL: in most rounds it told one that the file is locked."""
    with multiprocessing.get_context("spawn").Pool(3) as processes:
        for number in range(40):
            file, start = tmp_path / f"{number}.db", time.time() + 0.02
            assert processes.starmap(_switch_to_wal, [(file, start)] * 3, chunksize=1) == ["wal"] * 3


def _switch_to_wal(file: Path, start: float) -> str:
    time.sleep(max(0.0, start - time.time()))
    with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as connection:
        extensions._switch_to_wal(connection.cursor())
        connection.execute("CREATE TABLE IF NOT EXISTS something (id)")
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
