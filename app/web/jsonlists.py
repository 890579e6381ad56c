"""A JSON list read item by item from a body as it comes in, so that no more than one item is held.

Only where items end is found out here; whether one is proper JSON says whoever reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from app.errors import InvalidRequestError, TooLargeError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
QUOTE, BACKSLASH, COMMA, CLOSE = b'"'[0], b"\\"[0], b","[0], b"]"[0]
SPACE = re.compile(rb"[ \t\r\n]*+")
MARK = re.compile(rb'["\[\]{},]')
# From a backslash within a string on: as far as it certainly goes.
ESCAPED = re.compile(rb'(?:\\.|[^"\\])*+', re.DOTALL)
# What a photo and its metadata need are some twenty; each costs a step in Python.
MOST_MARKS = 10_000


def read(pieces: Iterable[bytes], *, most_bytes: int) -> Iterator[bytes]:
    """The text of each item of the list. Raises InvalidRequestError; TooLargeError for an item over ``most_bytes``."""
    text = _Text(iter(pieces))
    text.skip_mark()
    if text.next_byte() != b"[":
        raise InvalidRequestError("body: not a JSON list")
    text.drop(1)
    if text.next_byte() == b"]":
        text.drop(1)
    else:
        number, is_last = 0, False
        while not is_last:
            item, is_last = text.take_item(number, most_bytes)
            yield item
            number += 1
    if text.next_byte():
        raise InvalidRequestError("body: not JSON: it goes on behind the end of the list")


class _Text:
    """As much of a body as has come in and was not dropped."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._data = bytearray()

    def drop(self, size: int) -> None:
        del self._data[:size]

    def next_byte(self) -> bytes:
        """What comes first behind spaces, which are dropped; nothing at the end."""
        while True:
            found = SPACE.match(self._data)
            self.drop(found.end() if found else 0)
            if self._data or not self._add():
                return bytes(self._data[:1])

    def skip_mark(self) -> None:
        while len(self._data) < len(BYTE_ORDER_MARK) and self._add():
            pass
        if self._data.startswith(BYTE_ORDER_MARK):
            self.drop(len(BYTE_ORDER_MARK))

    def take_item(self, number: int, most_bytes: int) -> tuple[bytes, bool]:
        """The item that begins here, and whether it is the last one; the mark behind it is dropped, too."""
        end = self._find_end(number, most_bytes)
        item, is_last = bytes(self._data[:end]), self._data[end] == CLOSE
        self.drop(end + 1)
        return item, is_last

    def _find_end(self, number: int, most_bytes: int) -> int:
        at = depth = 0
        for _ in range(MOST_MARKS):
            at = self._find_mark(at, number, most_bytes)
            mark = self._data[at]
            if mark == QUOTE:
                at = self._find_quote(at + 1, number, most_bytes)
            elif mark == COMMA:
                if not depth:
                    return at
            elif mark in b"[{":
                depth += 1
            elif depth:
                depth -= 1
            elif mark == CLOSE:
                return at
            at += 1
        raise InvalidRequestError(f"[{number}]: has more in it than is read")

    def _find_mark(self, at: int, number: int, most_bytes: int) -> int:
        while (found := MARK.search(self._data, at)) is None:
            at = len(self._data)
            self._expect_more(number, most_bytes)
        return found.start()

    def _find_quote(self, at: int, number: int, most_bytes: int) -> int:
        """Where the string ends that goes on at ``at``. Photos hold no backslash: those are found at memory's speed."""
        while True:
            quote = self._data.find(QUOTE, at)
            backslash = self._data.find(BACKSLASH, at, len(self._data) if quote < 0 else quote)
            if backslash >= 0:
                found = ESCAPED.match(self._data, backslash)
                at = found.end() if found else backslash
                if at < len(self._data) and self._data[at] == QUOTE:
                    return at
            elif quote >= 0:
                return quote
            else:
                at = len(self._data)
            self._expect_more(number, most_bytes)

    def _expect_more(self, number: int, most_bytes: int) -> None:
        if len(self._data) > most_bytes:
            raise TooLargeError(f"[{number}]: larger than the {most_bytes} bytes that an item may have")
        if not self._add():
            raise InvalidRequestError(f"[{number}]: not JSON: the body ends in it")

    def _add(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._data += piece
        return True
