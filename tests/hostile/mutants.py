"""Mutants of images: bits flipped, cut, lengths overwritten, pieces of others spliced in; same seed, same mutants."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence

from tests.hostile import made

# Larger images would make the run longer, and their headers are no longer than those of small ones.
MOST_SOURCE_BYTES = 200_000
HEADER_BYTES = 512
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)


def breed(sources: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """``count`` mutants of the sources that are small enough."""
    chance = random.Random(seed)
    small = [source for source in sources if 16 <= len(source) <= MOST_SOURCE_BYTES]
    for _ in range(count):
        body = chance.choice(small)
        for _ in range(chance.randrange(1, 4)):
            body = chance.choice((_flip, _cut, _overwrite, _splice, _repeat))(body, chance, small) or b"?"
        yield body


def _place(body: bytes, chance: random.Random) -> int:
    """Most often in the header, which is what is read."""
    end = len(body) if chance.random() < 0.25 else min(len(body), HEADER_BYTES)
    return chance.randrange(max(end, 1))


def _flip(body: bytes, chance: random.Random, _others: Sequence[bytes]) -> bytes:
    return made.flipped(body, chance, bits=chance.randrange(1, 30))


def _cut(body: bytes, chance: random.Random, _others: Sequence[bytes]) -> bytes:
    return body[: _place(body, chance) + 1]


def _overwrite(body: bytes, chance: random.Random, _others: Sequence[bytes]) -> bytes:
    """As a length, a count or an offset that lies."""
    number = chance.choice(NUMBERS)
    written = struct.pack(chance.choice("<>") + ("H" if number <= 0xFFFF and chance.random() < 0.5 else "I"), number)
    start = _place(body, chance)
    return body[:start] + written + body[start + len(written) :]


def _splice(body: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others)
    start = _place(other, chance)
    piece = other[start : start + chance.randrange(1, 2000)]
    at = _place(body, chance)
    return body[:at] + piece + body[at + chance.choice((0, len(piece))) :]


def _repeat(body: bytes, chance: random.Random, _others: Sequence[bytes]) -> bytes:
    start = _place(body, chance)
    piece = body[start : start + chance.randrange(1, 200)]
    return body[:start] + piece * chance.randrange(2, 500) + body[start:]
