"""Manifests as they come: formats, spellings, and rows that are refused by their line."""

from __future__ import annotations

import gzip
import io
import json
import random
import tracemalloc
from functools import partial

import pytest

from app import manifestfile
from app.errors import ManifestError, TooLargeError
from app.manifestfile import Row

TSV = b"id\turl\n0\thttp://host/a.png\n1\thttp://host/b.png?x=1,2\n"
# Without the time of day: it would stand in the names of tests.
packed = partial(gzip.compress, mtime=0)
ROWS = [("0", "http://host/a.png"), ("1", "http://host/b.png?x=1,2")]


def read(data: bytes, most_bytes: int = 100_000) -> list[Row]:
    return list(manifestfile.read(io.BytesIO(data), most_bytes=most_bytes))


@pytest.mark.parametrize(
    "data",
    [
        TSV,
        TSV.rstrip(),
        TSV.replace(b"\n", b"\r\n"),
        TSV.replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + TSV,
        TSV.decode().encode("utf-16"),
        TSV.replace(b"\n", b"\n\n  \n"),
        b"\n" + TSV,
        TSV.replace(b"id\turl", b" URL \t ID ")
        .replace(b"0\thttp://host/a.png", b"http://host/a.png\t0")
        .replace(b"1\thttp://host/b.png?x=1,2", b"http://host/b.png?x=1,2\t1"),
        TSV.replace(b"\t", b" \t "),
        TSV.replace(b"http://host/a.png", b'"http://host/a.png"'),
        b'id,url\n0,http://host/a.png\n1,"http://host/b.png?x=1,2"\n',
        b"id;url\n0;http://host/a.png\n1;http://host/b.png?x=1,2\n",
        b'{"id": 0, "url": "http://host/a.png"}\n\n{"url": "http://host/b.png?x=1,2", "id": "1"}\n',
        packed(TSV),
        packed(TSV[:20]) + packed(TSV[20:]),
        packed(b"\xef\xbb\xbf" + TSV.replace(b"\n", b"\r\n")),
    ],
    ids=lambda data: repr(data[:30]),
)
def test_the_same_rows_in_every_spelling(data: bytes) -> None:
    assert [(row.id, row.url) for row in read(data)] == ROWS


def test_further_columns_come_along() -> None:
    assert read(b"shelf\tid\turl\tLabel\n7\ta\thttp://h/1\tt\xc3\xa9\n")[0].extra == {"shelf": "7", "Label": "té"}
    found = read(b'{"id": "a", "url": "http://h/1", "box": [1, 2.5, null], "more": {"deep": true}}')[0].extra
    assert found == {"box": [1, 2.5, None], "more": {"deep": True}}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "line 1: must be a header with the columns id and url"),
        (b"\n\n", "line 1: must be a header"),
        (b"0\thttp://h/a\n", "line 1: must be a header"),
        (b"id\tlink\n", "line 1: must be a header"),
        (b"id\turl\tid\n", "line 1: the header names a column twice"),
        (b"<html>\n<body>", "line 1: must be a header"),
        (b"\x89PNG\r\n\x1a\n\0\0", "line 1: is not text in UTF-8"),
        (TSV + b"2\n", "line 4: has 1 columns, the header 2"),
        (TSV + b"2\thttp://h\tx\n", "line 4: has 3 columns, the header 2"),
        (TSV + b"\n\n\thttp://h/c\n", "line 6: id: must have 1 to 255 characters"),
        (TSV + b"x" * 256 + b"\thttp://h\n", "line 4: id: must have"),
        (TSV + b"0\thttp://h/c\n", "line 4: id: '0' stands in line 2 already"),
        (TSV + b"2\thttp://h/\xff\n", "line 4: is not text in UTF-8"),
        (TSV + b"2\thttp://h/\0\n", "line 4: is not text in UTF-8"),
        (TSV + b'2\t"http://h/\n3\thttp://h/d\n', "line 4: unexpected end of data"),
        (TSV + b"2\t" + b"x" * 70_000, "line 4: is longer than 65536 characters"),
        (b"id\turl\tnote\n0\thttp://h\t" + b"x" * 5000, "line 2: the further columns hold more than 4096 bytes"),
        (b'{"id": 0, "url": "http://h"}\n{"id": 1}', "line 2: must be an object with id and url"),
        (b'{"id": 0, "url": "http://h"}\n[1]', "line 2: must be an object with id and url"),
        (b'{"id": 0, "url": "http://h"}\n{"id": 1', "line 2: is not JSON"),
        (b'{"id": 0, "url": "http://h", "x": NaN}', "line 1: is not JSON"),
        (b'{"id": true, "url": "http://h"}', "line 1: id: must be a text or a whole number"),
        (b'{"id": 1.5, "url": "http://h"}', "line 1: id: must be a text or a whole number"),
        (b'{"id": 1, "url": null}', "line 1: url: must be a text"),
        (b'{"id": "\\ud800", "url": "http://h"}', "line 1: holds a character that cannot be stored"),
        (b'{"id": 1, "url": "http://h", "x": "\\u0000"}', "line 1: holds a character that cannot be stored"),
        (b'{"id": 1, "url": "http://h", "x": "\\udc00"}', "line 1: holds a character that cannot be stored"),
        (b'{"id": 1, "url": "http://h", "x": ' + b"[" * 20 + b"]" * 20 + b"}", "line 1: the further columns hold"),
        (b'{"id": 1, "url": "http://h", "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "line 1: "),
        (TSV + b"\n" * 10_001, "line 10004: there are more than 10000 empty lines"),
        (packed(TSV)[:-12], "the file is packed and cannot be unpacked"),
        (packed(TSV)[:30] + b"\xff" * 30, "the file is packed and cannot be unpacked"),
        (packed(TSV) + b"garbage", "the file is packed and cannot be unpacked"),
        (packed(packed(TSV)), "is not text in UTF-8"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_by_its_line(data: bytes, sentence: str) -> None:
    with pytest.raises(ManifestError, match=None) as caught:
        read(data)
    assert sentence in str(caught.value)


def test_a_gzip_bomb_is_read_no_further_than_the_bound() -> None:
    bomb = packed(b"id\turl\n" + (b" " * 40_000 + b"\n") * 2500)
    assert len(bomb) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            read(bomb, most_bytes=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_the_bound_itself_may_be_reached() -> None:
    assert len(read(TSV, most_bytes=len(TSV))) == 2
    with pytest.raises(TooLargeError):
        read(TSV, most_bytes=len(TSV) - 1)


def test_no_bytes_whatever_raise_anything_else() -> None:
    numbers = random.Random(5)
    seeds = [TSV, packed(TSV), json.dumps({"id": 1, "url": "http://h"}).encode(), TSV.decode().encode("utf-16")]
    for _ in range(3000):
        data = bytearray(numbers.choice(seeds))
        for _ in range(numbers.randrange(1, 6)):
            data[numbers.randrange(len(data))] = numbers.randrange(256)
        try:
            read(bytes(data))
        except (ManifestError, TooLargeError):
            pass
