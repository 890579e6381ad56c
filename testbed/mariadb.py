"""A throwaway MariaDB server on a free port, with the SQL mode that MySQL 8 has by default.

Where ``TEST_MYSQLD`` names a mysqld, it is that one, a MySQL: the tests then run on it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Any, Self

import pymysql

from testbed.server import Server, program

USER = PASSWORD = "imagejobs"
MYSQLD = os.environ.get("TEST_MYSQLD")

# Without it the server refuses to run as root; with another name it would change user, which clears the tie that
# ends it together with us.
_AS_ROOT = ["--user=root"] if os.getuid() == 0 else []

# ONLY_FULL_GROUP_BY is on in MySQL and off in MariaDB: SQL that passes here must pass there.
SQL_MODE = (
    "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
)

# What the two call differently, or have alone.
_OF_MARIADB = ("--innodb-log-file-size=64M",)
_OF_MYSQL = (
    *("--innodb-redo-log-capacity=128M", "--mysqlx=OFF", "--secure-file-priv=NULL"),
    "--explain-format=TRADITIONAL",
)
_OWN = _OF_MYSQL if MYSQLD else _OF_MARIADB

ACCOUNTS = f"""\
CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'127.0.0.1';
"""


class MariaDB(Server):
    """One server. ``options`` are added to mariadbd's, e.g. ``["--innodb-buffer-pool-size=1G"]``."""

    kind = "MariaDB"
    start_seconds = 60.0

    def __init__(self, *, options: Sequence[str] = ()) -> None:
        super().__init__()
        self._command(self._argv(options))

    def _argv(self, options: Sequence[str]) -> list[str]:
        return [
            *(MYSQLD or program("mariadbd"), "--no-defaults", *_AS_ROOT),
            f"--datadir={self.folder / 'data'}",
            # In /tmp two servers that begin at the same moment delete each other's temporary tables.
            f"--tmpdir={self.folder}",
            f"--socket={self.folder / 's'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--init-file={self.folder / 'accounts.sql'}",
            *("--bind-address=127.0.0.1", f"--port={self.port}", "--skip-name-resolve"),
            *("--character-set-server=utf8mb4", f"--sql-mode={SQL_MODE}"),
            *("--innodb-buffer-pool-size=256M", "--max-connections=500", *_OWN),
            # A commit is on disk when it is answered, as in production: a benchmark without it would flatter.
            "--innodb-flush-log-at-trx-commit=1",
            *options,
        ]

    def start(self) -> Self:
        """Create the data folder if there is none, start the server and wait until it answers."""
        if not (self.folder / "data").exists():
            self._initialise()
        return super().start()

    def _initialise(self) -> None:
        (self.folder / "accounts.sql").write_text(ACCOUNTS)
        if MYSQLD:
            argv = [MYSQLD, "--no-defaults", *_AS_ROOT, "--initialize-insecure"]
        else:
            argv = [program("mariadb-install-db"), "--no-defaults", *_AS_ROOT]
            argv += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        argv += [f"--datadir={self.folder / 'data'}", f"--tmpdir={self.folder}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{argv[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def _is_answering(self) -> bool:
        try:
            self.execute("SELECT 1")
        except pymysql.err.OperationalError:
            return False
        return True

    def execute(self, statement: str, *, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own; returns its rows."""
        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, database=database, autocommit=True
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def url(self, name: str) -> str:
        """The address of database ``name``, whether it exists or not."""
        return f"mysql+pymysql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{name}?charset=utf8mb4"

    def create_database(self, name: str) -> str:
        """Create an empty database, dropping one of the same name; returns its address."""
        self.execute(f"DROP DATABASE IF EXISTS `{name}`")
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        return self.url(name)
