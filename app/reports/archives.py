"""A zip as a stream of pieces: nothing of it is held but the file that is being added."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple, cast

PIECE_BYTES = 256 * 1024
# Photos do not get smaller by it.
COMPRESSED = (".xlsx", ".csv", ".json")


class Entry(NamedTuple):
    """A file of the archive; ``data`` is read when its turn comes."""

    name: str
    data: Iterable[bytes]
    bytes: int  # its length, so that files past 4 GB are written as such


class _Sink:
    """What a zip is written to: keeps the bytes until they are taken. Cannot seek, so the zip is written straight."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def write(self, data: bytes) -> int:
        self._kept += data
        return len(data)

    def flush(self) -> None:
        pass

    def take(self, least: int = 1) -> Iterator[bytes]:
        if len(self._kept) >= least:
            kept, self._kept = bytes(self._kept), bytearray()
            yield kept


def pieces(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The zip of the entries, each read once, in their order."""
    sink = _Sink()
    now = time.gmtime()[:6]
    with zipfile.ZipFile(cast(IO[bytes], sink), "w") as archive:
        for entry in entries:
            info = zipfile.ZipInfo(entry.name, now)
            info.external_attr = 0o644 << 16
            info.file_size = entry.bytes
            if entry.name.endswith(COMPRESSED[1:]):
                info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w") as file:
                for piece in entry.data:
                    file.write(piece)
                    yield from sink.take(PIECE_BYTES)
            yield from sink.take(PIECE_BYTES)
    yield from sink.take()
