"""The store master in the shapes that spreadsheets and people give it."""

from __future__ import annotations

import codecs
import csv
import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import storefile
from app.errors import InvalidRequestError
from app.storefile import Refusal, StoreRow

HEADER = "AreaCode,StoreName,StoreID\n"
BHARAT = ("S00339218", "710006", "BHARAT STORE")


def read(content: str | bytes) -> list[StoreRow | Refusal]:
    return list(storefile.read(io.BytesIO(content.encode() if isinstance(content, str) else content)))


def stores(content: str | bytes) -> list[tuple[str, str, str]]:
    return [(row.store_id, row.area, row.name) for row in read(content) if isinstance(row, StoreRow)]


def refusals(content: str | bytes) -> list[Refusal]:
    return [row for row in read(content) if isinstance(row, Refusal)]


@pytest.mark.parametrize(
    "content",
    [
        "AreaCode,StoreName,StoreID\n710006,BHARAT STORE,S00339218\n",
        "AreaCode,StoreName,StoreID\r\n710006,BHARAT STORE,S00339218\r\n",
        "AreaCode,StoreName,StoreID\r710006,BHARAT STORE,S00339218\r",
        "AreaCode,StoreName,StoreID\r\r\n710006,BHARAT STORE,S00339218\r\r\n",
        "AreaCode,StoreName,StoreID\n710006,BHARAT STORE,S00339218",
        "area_code,store_name,store_id\n710006,BHARAT STORE,S00339218",
        "Store ID, Area Code ,STORE-NAME\nS00339218,710006,BHARAT STORE",
        '"StoreID","AreaCode","StoreName"\n"S00339218","710006","BHARAT STORE"',
        "StoreID;StoreName;AreaCode\nS00339218;BHARAT STORE;710006",
        "StoreID\tStoreName\tAreaCode\nS00339218\tBHARAT STORE\t710006",
        "City,StoreID,Opened,StoreName,AreaCode,Note\nPune,S00339218,2001,BHARAT STORE,710006",
        "AreaCode,StoreName,StoreID\n 710006 ,\tBHARAT STORE  , S00339218\u00a0\n",
        "\n  \nAreaCode,StoreName,StoreID\n\n,,\n710006,BHARAT STORE,S00339218\n\n\n",
        "AreaCode,StoreName,StoreID\n710006,BHARAT STORE,S00339218,,\n",
        "Area\0Code,StoreName,StoreID\n710006,BHARAT\0 STORE,S00339218\0\n",
        "\ufeffAreaCode,StoreName,StoreID\n710006,BHARAT STORE,S00339218\n",
        '\ufeff"AreaCode",StoreName,StoreID\n710006,BHARAT STORE,S00339218\n',
        codecs.BOM_UTF16_LE + "AreaCode\tStoreName\tStoreID\r\n710006\tBHARAT STORE\tS00339218".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "AreaCode,StoreName,StoreID\n710006,BHARAT STORE,S00339218".encode("utf-16-be"),
    ],
)
def test_one_store_is_read_from_every_shape(content: str | bytes) -> None:
    assert stores(content) == [BHARAT]
    assert refusals(content) == []


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ('"RAM, SHYAM & SONS"', "RAM, SHYAM & SONS"),
        ('"RAM\r\nSHYAM"', "RAM\r\nSHYAM"),
        ('"RAM\n\nSHYAM ""A"""', 'RAM\n\nSHYAM "A"'),
        ('12" PIZZA', '12" PIZZA'),
        ('"RAM" STORE', "RAM STORE"),
        ('""', ""),
        ("राम स्टोर", "राम स्टोर"),
        ("🛒", "🛒"),
        ("line\u2028separator\x85", "line\u2028separator"),
    ],
)
def test_names_are_kept_as_they_are_meant(field: str, name: str) -> None:
    assert stores(f"{HEADER}1,{field},S1\n2,NEXT,S2\n") == [("S1", "1", name), ("S2", "2", "NEXT")]


def test_bytes_that_are_no_utf8_are_read_as_cp1252_and_the_rest_stays() -> None:
    content = HEADER.encode() + b"1,CAF\xe9 \x80,S1\n2,CAF\xc3\xa9,S2\n3,\x81\xff,S3\n4,\xc3\xa9\xe9,S4\n5,\xf0\x9f,S5"
    assert [name for _, _, name in stores(content)] == ["CAFé €", "CAFé", "\x81ÿ", "éé", "ðŸ"]


def test_line_numbers_are_those_of_an_editor() -> None:
    content = HEADER + '1,"A\nB",S1\n\n2,C,\n3,D,S3\n'
    assert read(content) == [
        StoreRow(2, "S1", "1", "A\nB"),
        Refusal(5, "StoreID is empty"),
        StoreRow(6, "S3", "3", "D"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("710006,NAME,", "StoreID is empty"),
        ("710006,NAME, \t ", "StoreID is empty"),
        ("710006,NAME", "too few fields: 2 where the header has 3"),
        ("710006", "too few fields: 1 where the header has 3"),
        ("710006,RAM, SHYAM,S1", "too many fields: 4 where the header has 3"),
        (f"1,NAME,{'é' * 33}", "StoreID is longer than 64 bytes"),
        (f"{'1' * 65},NAME,S1", "AreaCode is longer than 64 characters"),
        (f"1,{'n' * 256},S1", "StoreName is longer than 255 characters"),
        ('1,"NEVER CLOSED,S1', "too few fields: 2 where the header has 3"),
        (f"1,{'n' * 200_000},S1", "too few fields: 1 where the header has 3"),
    ],
)
def test_a_bad_line_is_refused_and_its_neighbours_are_not(line: str, reason: str) -> None:
    content = f"{HEADER}0,BEFORE,S0\n{line}\n2,AFTER,S2\n"
    assert stores(content) == [("S0", "0", "BEFORE"), ("S2", "2", "AFTER")]
    assert refusals(content) == [Refusal(3, reason)]


def test_the_widest_values_fit() -> None:
    assert stores(f"{HEADER}{'1' * 64},{'n' * 255},{'é' * 32}") == [("é" * 32, "1" * 64, "n" * 255)]


def test_an_open_quote_does_not_swallow_the_stores_below_it() -> None:
    below = "".join(f'{n},"STORE, {n}",S{n}\n' for n in range(100))
    content = f'{HEADER}1,"OPEN,X1\n{below}'
    assert len(stores(content)) == 100
    assert [refusal.line for refusal in refusals(content)] == [2]


def test_the_last_of_one_id_counts_and_the_earlier_are_reported() -> None:
    content = HEADER + "1,A,S1\n2,B,S2\n3,C,S1\n4,D,S1\n5,E,s1\n"
    kept = {row.store_id: row.name for row in read(content) if isinstance(row, StoreRow)}
    assert kept == {"S1": "D", "S2": "B", "s1": "E"}
    assert refusals(content) == [
        Refusal(2, "store 'S1' stands again in line 4, which counts"),
        Refusal(4, "store 'S1' stands again in line 5, which counts"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the store master is empty"),
        (b"\n\r\n  \n", "the store master is empty"),
        (codecs.BOM_UTF8, "the store master is empty"),
        (codecs.BOM_UTF16_LE, "the store master is empty"),
        (b"710006,BHARAT STORE,S00339218\n", "it lacks AreaCode, StoreName, StoreID"),
        (b"AreaCode,StoreName\n1,A\n", "it lacks StoreID"),
        (b"AreaCode;StoreName\n1;A\n", "it lacks StoreID"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it lacks AreaCode, StoreName, StoreID"),
        (b"PK\x03\x04\x14\0\x06\0", "it lacks AreaCode, StoreName, StoreID"),
    ],
)
def test_a_file_without_a_header_is_one_error(content: bytes, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        read(content)


def test_a_header_alone_is_no_stores() -> None:
    assert read(HEADER) == []


def test_the_stream_stays_open_for_its_owner() -> None:
    stream = io.BytesIO(HEADER.encode())
    list(storefile.read(stream))
    assert not stream.closed


CELL = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=60)


@given(st.lists(st.tuples(CELL.map(str.strip), CELL.map(str.strip)), max_size=8), st.sampled_from(storefile.DELIMITERS))
def test_what_the_csv_module_writes_is_read_back(cells: list[tuple[str, str]], delimiter: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(["StoreName", "StoreID", "AreaCode"])
    writer.writerows([name, f"S{n}", area] for n, (name, area) in enumerate(cells))
    expected = [
        (f"S{n}", area, name) for n, (name, area) in enumerate(cells) if name.count("\n") + name.count("\r") <= 9
    ]
    found = stores(text.getvalue())
    assert [store for store in found if store in expected] == expected


@given(st.binary())
def test_no_bytes_crash_it(content: bytes) -> None:
    assert all(isinstance(row, StoreRow | Refusal) for row in read(HEADER.encode() + content))


def test_a_hundred_thousand_lines_take_about_a_second() -> None:
    content = HEADER + "".join(f'{n % 12},"STORE, {n}",S{n:08}\n' for n in range(100_000))
    start = time.process_time()
    assert len(stores(content)) == 100_000
    assert time.process_time() - start < 3  # seen: 0.3; the rest is room for a busy machine
