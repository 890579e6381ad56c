"""Zip archives that strangers send: opened file by file, and refused as a whole where they are not plainly photos.

Nothing is ever written under a name from the archive. Refused are archives that no camera and no file manager makes:
entries that lead outside, links, encryption, entries that share their bytes, archives within, names that no system
takes, more than is allowed once unpacked. The archive is read entry by entry; its directory is bounded beforehand.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from app.errors import ArchiveError

MOST_DIRECTORY_BYTES = 64 * 1024 * 1024
READ_BYTES = 256 * 1024
# Endings of the formats that may be read here, whatever IMAGE_FORMATS says: the worker then says why one is not.
IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".avif", ".heic", ".heif", ".ico"),
)
ARCHIVE_ENDINGS = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".jar")
ARCHIVE_STARTS = (b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ")
# What file managers add to a folder of photos.
JUNK = re.compile(r"(^|/)(__MACOSX/|\.|Thumbs\.db$|desktop\.ini$)", re.IGNORECASE)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
DRIVE = re.compile(r"^[A-Za-z]:")
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED, STRONGLY_ENCRYPTED, PATCHED = 0x1, 0x40, 0x20
END, END64_LOCATOR, END64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
MOST_END_BYTES = 22 + 65_535


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    entries: int
    unpacked_bytes: int  # of all entries together
    image_bytes: int


@dataclass(frozen=True, slots=True)
class Member:
    """An entry that is an image by its name. ``place`` is its number in the archive."""

    place: int
    name: str
    bytes: int
    is_too_large: bool


class Archive:
    """Raises ArchiveError, with the reason in a sentence, where it is not taken; ``file`` must be able to seek."""

    def __init__(self, file: BinaryIO, limits: ArchiveLimits) -> None:
        self._limits = limits
        _check_end(file, limits)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
            raise ArchiveError("it is damaged: its directory cannot be read") from error
        entries = self._zip.infolist()
        for entry in entries:
            self._check(entry)
        _check_overlaps(entries, self._zip.start_dir)
        if sum(entry.file_size for entry in entries) > limits.unpacked_bytes:
            raise ArchiveError(f"it holds more than {limits.unpacked_bytes:,} bytes once unpacked", is_too_large=True)
        self.members = [
            Member(place, shown(entry.filename), entry.file_size, entry.file_size > limits.image_bytes)
            for place, entry in enumerate(entries)
            if _is_image(entry)
        ]
        files = [entry for entry in entries if not entry.is_dir() and not JUNK.search(entry.filename)]
        self.ignored = len(files) - len(self.members)

    def read(self, member: Member) -> Iterator[bytes]:
        """The bytes of a member, of which there are as many as it says. Raises ArchiveError."""
        entry = self._zip.infolist()[member.place]
        left = entry.file_size
        try:
            with self._zip.open(entry) as file:
                start = file.read(READ_BYTES)
                _check_start(start, entry.filename)
                piece = start
                while piece:
                    left -= len(piece)
                    yield piece
                    piece = file.read(READ_BYTES)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise ArchiveError(f"it is damaged: {_quoted(entry.filename)} cannot be unpacked") from error
        if left:
            raise ArchiveError(f"it is damaged: {_quoted(entry.filename)} is cut off")

    def _check(self, entry: zipfile.ZipInfo) -> None:
        name = entry.orig_filename  # as it stands there: the other is cut at a NUL and has its slashes changed
        if not name or CONTROL.search(name) or len(name) > 1000:
            raise ArchiveError(f"the name {_quoted(name)} holds what no file's name does")
        if name.startswith(("/", "\\")) or DRIVE.match(name) or ".." in re.split(r"[/\\]", name):
            raise ArchiveError(f"{_quoted(name)} leads outside of the archive")
        if "\\" in name:
            raise ArchiveError(f"{_quoted(name)} has a backslash, which means another thing on each system")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise ArchiveError(f"{_quoted(name)} is a link or a device, not a file")
        if entry.flag_bits & (ENCRYPTED | STRONGLY_ENCRYPTED):
            raise ArchiveError("it is encrypted")
        if entry.compress_type not in METHODS or entry.flag_bits & PATCHED:
            raise ArchiveError(f"{_quoted(name)} is compressed in a way that is not read here; zip it as usual")
        if entry.filename.lower().endswith(ARCHIVE_ENDINGS):
            raise ArchiveError(f"{_quoted(name)} is an archive within the archive")


def _is_image(entry: zipfile.ZipInfo) -> bool:
    name = entry.filename
    return not entry.is_dir() and not JUNK.search(name) and name.lower().endswith(IMAGE_ENDINGS)


def _check_start(start: bytes, name: str) -> None:
    if start.startswith(ARCHIVE_STARTS):
        raise ArchiveError(f"{_quoted(name)} is an archive within the archive")


def _check_overlaps(entries: list[zipfile.ZipInfo], end: int) -> None:
    """Entries that share their bytes unpack to far more than was sent (D. Fifield, "A better zip bomb", 2019)."""
    places = sorted((entry.header_offset, entry.compress_size) for entry in entries)
    for number, (start, length) in enumerate(places):
        following = places[number + 1][0] if number + 1 < len(places) else end
        if start < 0 or start + 30 + length > following:  # 30: the least length of an entry's own header
            raise ArchiveError("some of its entries share their bytes")


def _check_end(file: BinaryIO, limits: ArchiveLimits) -> None:
    """Bound the directory before anything reads all of it."""
    size = file.seek(0, 2)
    file.seek(max(0, size - MOST_END_BYTES))
    tail = file.read(MOST_END_BYTES)
    at = tail.rfind(END)
    if at < 0 or len(tail) - at < 22:
        raise ArchiveError("it is no zip archive, or was cut off on its way")
    entries, directory = struct.unpack_from("<10xHI", tail, at)
    if entries == 0xFFFF or directory == 0xFFFF_FFFF:
        entries, directory = _end64(file, tail, at)
    if entries > limits.entries:
        raise ArchiveError(f"it has more than {limits.entries:,} entries", is_too_large=True)
    if directory > min(MOST_DIRECTORY_BYTES, size):
        raise ArchiveError("its directory is larger than that of any archive of photos", is_too_large=True)


def _end64(file: BinaryIO, tail: bytes, at: int) -> tuple[int, int]:
    if at < 20 or tail[at - 20 : at - 16] != END64_LOCATOR:
        return struct.unpack_from("<10xHI", tail, at)
    (offset,) = struct.unpack_from("<8xQ", tail, at - 20)
    if offset > file.seek(0, 2):
        raise ArchiveError("it is damaged: its directory cannot be read")
    file.seek(offset)
    record = file.read(56)
    if len(record) < 56 or not record.startswith(END64):
        raise ArchiveError("it is damaged: its directory cannot be read")
    entries, directory = struct.unpack_from("<32xQQ", record)
    return entries, directory


def shown(name: str) -> str:
    """A client's name of a file as it is kept: its last part may be long, but not endless."""
    return CONTROL.sub("", name.encode("utf-8", "replace").decode())[-255:]


def _quoted(name: str) -> str:
    return repr(name[:60])
