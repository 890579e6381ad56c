"""The size of a plain JPEG from its first bytes, without Pillow, which takes some forty times as long.

It answers only for a file that Pillow is sure to read, and then as Pillow does: anything unusual is left to Pillow,
which knows the formats, and says what is wrong with a file. Nothing is interpreted but the frame (ITU-T T.81, annex B).
"""

from __future__ import annotations

from struct import Struct

_SEGMENT = Struct(">HH")  # its marker, and its length without the marker
_FRAME = Struct(">BHHB")  # bits a sample, height, width, components
_FIRST, _SCAN, _TABLES = 0xFFC0, 0xFFDA, 0xFFDB
_APP0, _APP1, _APP2, _APP14, _APP15, _COMMENT = 0xFFE0, 0xFFE1, 0xFFE2, 0xFFEE, 0xFFEF, 0xFFFE
_FRAMES = frozenset((0xFFC0, 0xFFC1, 0xFFC2))  # baseline, extended, progressive
# Huffman tables, restart interval; APP1 (EXIF, XMP) and the like, of which the size does not depend.
_SKIPPED = frozenset((0xFFC4, 0xFFDD, _APP1, *range(0xFFE3, 0xFFED), _APP15, _COMMENT))
_LEAST_JFIF, _LEAST_ADOBE, _LEAST_PROFILE = 12, 12, 14


def read_size(start: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a JPEG that begins with these bytes; None: ask Pillow."""
    if not start.startswith(b"\xff\xd8\xff"):
        return None
    size: tuple[int, int] | None = None
    place, last = 2, len(start) - _SEGMENT.size
    while place <= last:
        marker, length = _SEGMENT.unpack_from(start, place)
        first, place = place + 4, place + 2 + length
        if length < 2 or place > len(start):
            return None
        if marker == _SCAN:
            return size
        if marker in _SKIPPED:
            continue
        if marker in _FRAMES:
            if size or not (size := _read_frame(start[first:place])):
                return None
        elif not _is_plain(marker, start[first:place]):
            return None
    return None


def _read_frame(frame: bytes) -> tuple[int, int] | None:
    if len(frame) < _FRAME.size:
        return None
    bits, height, width, components = _FRAME.unpack_from(frame)
    is_plain = bits == 8 and components in (1, 3, 4) and len(frame) == _FRAME.size + 3 * components
    return (width, height) if is_plain and width and height else None


def _is_plain(marker: int, data: bytes) -> bool:
    """Whether Pillow reads this segment without a complaint, and it says nothing of what kind of file this is."""
    if marker == _TABLES:
        return _are_tables(data)
    if marker == _APP0:
        return len(data) >= _LEAST_JFIF
    if marker == _APP2:  # a second picture (MPO) would make another format of it
        return len(data) >= _LEAST_PROFILE and not data.startswith(b"MPF\0")
    return marker == _APP14 and len(data) >= _LEAST_ADOBE


def _are_tables(data: bytes) -> bool:
    place = 0
    while place < len(data):
        place += 129 if data[place] >> 4 else 65
    return place == len(data)
