"""A table as a Parquet file, made in pieces: neither its rows nor the file are ever held.

The library writes a file in one call, during which it asks for rows. So that the caller can hand in rows and take
bytes in turn, that call is made in a thread, of which and the caller only one goes on at a time.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import Enum
from queue import SimpleQueue
from typing import Any, NamedTuple

from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import write_parquet

# What is read at once by whoever reads it; each group is in memory, packed, until it is full.
ROWS_A_GROUP = 10_000
COMPRESSION = "zstd(1)"
EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)


class Kind(Enum):
    """Types of columns; every value may also be None."""

    TEXT = "utf8"
    TRUTH = "bool"
    INTEGER = "int64"
    NUMBER = "float64"
    TIME = "timestamp"  # naive UTC, in microseconds


TYPES = {
    Kind.TEXT: DataType.utf8(),
    Kind.TRUTH: DataType.bool(),
    Kind.INTEGER: DataType.int64(),
    Kind.NUMBER: DataType.float64(),
    Kind.TIME: DataType.timestamp("us", tz="UTC"),
}


class Column(NamedTuple):
    name: str
    kind: Kind


Page = Sequence[Sequence[Any]]


def stream(columns: Sequence[Column], pages: Iterable[Page]) -> Generator[bytes, None, None]:
    """The file in pieces, a piece a group of rows; ``pages`` are lists of rows, asked for as the file goes out.

    Values have the types of their columns. What ``pages`` raises comes out as it is, and the file stays without its
    end, by which every reader sees that it is none.
    """
    call = _Call(columns)
    try:
        call.begin()
        for page in pages:
            if page and (written := call.write(page)):
                yield written
        yield call.write([])
    finally:
        call.give_up()


class _GivenUpError(Exception):
    pass


class _Written(io.RawIOBase):
    """The file that the library writes to: keeps what it got until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


class _Call:
    """One call of the library's."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._kinds = [column.kind for column in columns]
        self._schema = Schema([Field(column.name, TYPES[column.kind]) for column in columns])
        self._file = _Written()
        self._handed_in: SimpleQueue[Page | _GivenUpError] = SimpleQueue()
        self._answers: SimpleQueue[BaseException | None] = SimpleQueue()  # None: what was handed in has been taken
        self._thread = threading.Thread(target=self._run, name="parquet", daemon=True)

    def begin(self) -> None:
        self._thread.start()
        self._wait()

    def write(self, page: Page) -> bytes:
        """Returns what of the file is ready now; an empty page ends it."""
        self._handed_in.put(page)
        self._wait()
        return self._file.take()

    def give_up(self) -> None:
        """Have the call end, wherever it is; behind its end nobody hears this any more."""
        self._handed_in.put(_GivenUpError())

    def _wait(self) -> None:
        if error := self._answers.get():
            raise error

    def _run(self) -> None:
        reader = RecordBatchReader.from_batches(self._schema, self._batches())
        try:
            write_parquet(reader, self._file, compression=COMPRESSION, max_row_group_size=ROWS_A_GROUP)  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001
            self._answers.put(error)
        else:
            self._answers.put(None)

    def _batches(self) -> Iterator[RecordBatch]:
        while True:
            self._answers.put(None)
            page = self._handed_in.get()
            if isinstance(page, _GivenUpError):
                raise page
            if not page:
                return
            columns = zip(self._kinds, zip(*page, strict=True), strict=True)
            yield RecordBatch.from_arrays([_array(*column) for column in columns], schema=self._schema)


def _array(kind: Kind, values: Sequence[Any]) -> Array:
    if kind is not Kind.TIME:
        return Array(values, type=TYPES[kind])
    since_epoch = [None if value is None else (value - EPOCH) // MICROSECOND for value in values]
    return Array(since_epoch, type=TYPES[Kind.INTEGER]).cast(TYPES[kind])
