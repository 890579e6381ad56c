"""Archives as people send them are opened; hostile ones are refused with the reason."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable

import pytest

from app.archives import Archive, ArchiveLimits
from app.errors import ArchiveError
from tests.pictures import encoded, plain

LIMITS = ArchiveLimits(entries=100, unpacked_bytes=10_000_000, image_bytes=1_000_000)
JPEG = encoded(plain("red"), "JPEG")


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, body in entries:
            archive.writestr(name, body)
    return file.getvalue()


def opened(body: bytes, limits: ArchiveLimits = LIMITS) -> Archive:
    return Archive(io.BytesIO(body), limits)


def info(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


def test_photos_are_found_in_folders_and_the_rest_is_left_alone() -> None:
    archive = opened(
        zipped(
            ("holiday/", b""),
            ("holiday/Käse 1.JPG", JPEG),
            ("holiday/b.png", encoded(plain("blue"))),
            ("holiday/notes.txt", b"text"),
            ("__MACOSX/holiday/._b.png", b"junk"),
            ("holiday/.DS_Store", b"junk"),
            ("Thumbs.db", b"junk"),
        )
    )
    assert [member.name for member in archive.members] == ["holiday/Käse 1.JPG", "holiday/b.png"]
    assert archive.ignored == 1
    assert b"".join(archive.read(archive.members[0])) == JPEG


def test_a_photo_that_is_too_large_is_named_and_the_others_are_taken() -> None:
    archive = opened(zipped(("big.bmp", b"BM" + bytes(1_500_000)), ("a.jpg", JPEG)))
    assert [(member.name, member.is_too_large) for member in archive.members] == [("big.bmp", True), ("a.jpg", False)]


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "\\\\host\\a.jpg", "C:/a.jpg", "c:a.jpg", "..\\a.jpg", "a\\b.jpg"],
)
def test_names_that_lead_outside_are_refused(name: str) -> None:
    entry = info("x")
    entry.filename = name
    with pytest.raises(ArchiveError, match=r"outside|backslash"):
        opened(zipped((entry, JPEG)))


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\x1bb.jpg", "gpj.exe\u202ea.jpg", "x" * 1200 + ".jpg"])
def test_odd_names_are_refused(name: str) -> None:
    with pytest.raises(ArchiveError, match="no file's name"):
        opened(zipped((name, JPEG)))


def test_a_name_that_goes_on_behind_a_nul_is_refused() -> None:
    body = zipped(("aXb.jpg", JPEG)).replace(b"aXb.jpg", b"a\x00b.jpg")
    with pytest.raises(ArchiveError, match="no file's name"):
        opened(body)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(mode: int) -> None:
    with pytest.raises(ArchiveError, match="link or a device"):
        opened(zipped((info("a.jpg", mode | 0o777), b"/etc/passwd")))


def test_encryption_is_refused() -> None:
    body = bytearray(zipped(("a.jpg", JPEG)))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.find(mark) + offset] |= 1
    with pytest.raises(ArchiveError, match="encrypted"):
        opened(bytes(body))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(method: int) -> None:
    with pytest.raises(ArchiveError, match="compressed in a way"):
        opened(zipped(("a.jpg", JPEG), method=method))


def test_an_archive_within_is_refused_by_its_name_and_by_its_content() -> None:
    with pytest.raises(ArchiveError, match="archive within"):
        opened(zipped(("inner.zip", zipped(("a.jpg", JPEG)))))
    hidden = opened(zipped(("inner.jpg", zipped(("a.jpg", JPEG)))))
    with pytest.raises(ArchiveError, match="archive within"):
        list(hidden.read(hidden.members[0]))


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    bomb = zipped(*((f"{number}.bmp", bytes(900_000)) for number in range(20)))
    assert len(bomb) < 50_000
    with pytest.raises(ArchiveError, match="once unpacked") as caught:
        opened(bomb)
    assert caught.value.is_too_large


def test_an_entry_that_holds_more_than_it_says_is_cut_there_and_refused() -> None:
    body = zipped(("a.bmp", bytes(500_000)))
    lying = body.replace(struct.pack("<I", 500_000), struct.pack("<I", 100))
    archive = opened(lying)
    with pytest.raises(ArchiveError, match="damaged"):
        list(archive.read(archive.members[0]))


def test_entries_that_share_their_bytes_are_refused() -> None:
    body = bytearray(zipped(("a.jpg", JPEG), ("b.jpg", JPEG)))
    second = body.rfind(b"PK\x01\x02")
    body[second + 42 : second + 46] = struct.pack("<I", 0)
    with pytest.raises(ArchiveError, match="share"):
        opened(bytes(body))


def test_too_many_entries_are_refused_before_the_directory_is_read() -> None:
    with pytest.raises(ArchiveError, match="more than 100 entries"):
        opened(zipped(*((f"{number}.jpg", b"") for number in range(101))))


def with_large_counts(body: bytes) -> bytes:
    """Says in the record for large archives that it has four thousand million entries."""
    at = body.rfind(b"PK\x05\x06")
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1 << 32, 1 << 32, 46, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return body[:at] + record + locator + end


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: b"",
        lambda body: b"PK\x03\x04",
        lambda body: body[: len(body) // 2],
        lambda body: body[:-30],
        lambda body: JPEG,
        with_large_counts,
        lambda body: body[:-10] + struct.pack("<I", 0xFFFFFFF0) + body[-6:],
        lambda body: body[:-6] + struct.pack("<I", 0x7FFFFFFF) + body[-2:],
    ],
)
def test_what_is_no_whole_archive_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ArchiveError):
        archive = opened(spoil(zipped(("a.jpg", JPEG))))
        list(archive.read(archive.members[0]))


def test_a_damaged_entry_is_refused_when_it_is_read() -> None:
    body = bytearray(zipped(("a.jpg", JPEG), method=zipfile.ZIP_STORED))
    body[60] ^= 0xFF
    archive = opened(bytes(body))
    with pytest.raises(ArchiveError, match="damaged"):
        list(archive.read(archive.members[0]))


def test_an_archive_behind_other_bytes_is_opened() -> None:
    archive = opened(b"#!/bin/sh\n" + zipped(("a.jpg", JPEG)))
    assert b"".join(archive.read(archive.members[0])) == JPEG


def test_an_empty_archive_has_no_photos() -> None:
    assert opened(zipped()).members == []
