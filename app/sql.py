"""SQL that MySQL 8, MariaDB 10.6+ and SQLite must spell differently, each written once.

``db_now()`` is the only clock of the service: leases, due times and finish times are compared with it, never with the
clock of a host. ``json_rows()`` turns many rows into one parameter, so that a batch of a thousand results is one
statement of constant text (half the client's CPU of a VALUES list, measured on MariaDB 10.11).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Float, Integer, Text, Update, bindparam, column, literal
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import TypeEngine

# Microseconds in UTC without an offset; MySQL's plain DATETIME would round to whole seconds.
UtcDateTime = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
# SQLite numbers rows by itself only where the key is plainly INTEGER.
BigId = BigInteger().with_variant(Integer, "sqlite")


class _Now(FunctionElement[datetime]):
    type = UtcDateTime
    name = "db_now"
    inherit_cache = True


def db_now(plus_seconds: ColumnElement[Any] | float | None = None) -> _Now:
    """The database's UTC time, optionally some seconds later (a number or a column)."""
    if plus_seconds is None:
        return _Now()
    shift = plus_seconds if isinstance(plus_seconds, ColumnElement) else literal(float(plus_seconds), Float)
    return _Now(shift)


@compiles(_Now, "mysql")
def _now_mysql(element: _Now, compiler: Any, **kw: Any) -> str:
    shift = compiler.process(element.clauses, **kw)
    return f"TIMESTAMPADD(MICROSECOND, ROUND(({shift}) * 1000000), UTC_TIMESTAMP(6))" if shift else "UTC_TIMESTAMP(6)"


@compiles(_Now, "sqlite")
def _now_sqlite(element: _Now, compiler: Any, **kw: Any) -> str:
    # SQLite knows milliseconds; three zeros make the text comparable with stored microseconds.
    shift = compiler.process(element.clauses, **kw)
    modifiers = f"'now', ({shift}) || ' seconds'" if shift else "'now'"
    return f"(strftime('%Y-%m-%d %H:%M:%f', {modifiers}) || '000')"


class _JsonRows(FunctionElement[Any]):
    name = "json_rows"
    # Its text depends on the columns: without them in the key of the cache two statements would share one text, and
    # without a key each would be compiled anew every time, which takes longer than many a statement itself.
    inherit_cache = True
    _traverse_internals = [*FunctionElement._traverse_internals, ("shape", InternalTraversal.dp_string)]

    def __init__(self, parameter: str, columns: dict[str, TypeEngine[Any]]) -> None:
        self.columns_by_name = columns
        self.shape = ", ".join(f"{name} {_mysql_type(type_)}" for name, type_ in columns.items())
        super().__init__(bindparam(parameter, type_=Text))


def json_rows(parameter: str, **columns: TypeEngine[Any]) -> TableValuedAlias:
    """A FROM item read from the statement's ``parameter``: a JSON list of lists, in the order of ``columns``."""
    typed = [column(name, type_) for name, type_ in columns.items()]
    return _JsonRows(parameter, columns).table_valued(*typed, name=parameter)


@compiles(_JsonRows, "mysql")
def _json_rows_mysql(element: _JsonRows, compiler: Any, **kw: Any) -> str:
    columns = ", ".join(
        f"{name} {_mysql_type(type_)} PATH '$[{place}]'"
        for place, (name, type_) in enumerate(element.columns_by_name.items())
    )
    return f"JSON_TABLE({compiler.process(element.clauses, **kw)}, '$[*]' COLUMNS ({columns}))"


@compiles(Update, "mysql")
def _update_driven_by_rows(element: Update, compiler: Any, **kw: Any) -> str:
    """Have an update from ``json_rows`` look its rows up by primary key, one after the other.

    Left to choose, the optimizer reads a small table from end to end instead, and locks every row on its way. A server
    that comes back after a crash may take any table for a small one: its statistics were not written yet. A batch of
    2,000 results then took 28 s (MariaDB 10.11).
    """
    text: str = compiler.visit_update(element, **kw)
    target, is_from_rows, rest = text.partition(", JSON_TABLE(")
    if not is_from_rows:
        return text
    rows, _, assignments = rest.partition(" SET ")
    looked_up = f"{target.removeprefix('UPDATE ')} FORCE INDEX (PRIMARY)"
    return f"UPDATE JSON_TABLE({rows} STRAIGHT_JOIN {looked_up} SET {assignments}"


def _mysql_type(type_: TypeEngine[Any]) -> str:
    return str(type_.compile(mysql.dialect()))


@compiles(_JsonRows, "sqlite")
def _json_rows_sqlite(element: _JsonRows, compiler: Any, **kw: Any) -> str:
    columns = ", ".join(
        f"json_extract(value, '$[{place}]') AS {name}" for place, name in enumerate(element.columns_by_name)
    )
    return f"(SELECT {columns} FROM json_each({compiler.process(element.clauses, **kw)}))"
