"""GET /api/visits, sentence by sentence of the contract."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.domain.lifecycle import Outcome
from app.domain.works import Work
from tests.integration import hands


@pytest.fixture
def visited(app: Flask, client: FlaskClient) -> FlaskClient:
    """Two areas; one visit failed, and one is not settled yet."""
    hands.add_stores(app)
    hands.submit(
        client,
        hands.visit("S00339218", 2, "2020-09-02T00:00:53Z"),
        hands.visit("S01408764", 1, "2020-09-02 00:00:56"),
        hands.visit("S02000001", 3, "2020-09-30T23:59:59.5Z"),
        hands.visit("S00339218", ["https://host/bad.jpg", "https://host/good.jpg"], "2020-09-03"),
        hands.visit("S00339218", 1, "2020-10-01"),
    )

    def outcome(work: Work) -> Outcome:
        return hands.failed(work) if work.url == "https://host/bad.jpg" else hands.done(work, seconds=0.2504)

    hands.work_off(app, outcome)
    hands.submit(client, hands.visit("S00339218", 1, "2020-09-04"))
    return client


def find(client: FlaskClient, **query: Any) -> list[tuple[str, str, int]]:
    answer = client.get("/api/visits", query_string=query)
    assert answer.status_code == 200, answer.text
    return [
        (store["store_id"], entry["date"], entry["perimeter"])
        for store in answer.json["results"]
        for entry in store["data"]
    ]


FIRST = ("S00339218", "2020-09-02T00:00:53Z", 2000)
OCTOBER = ("S00339218", "2020-10-01T00:00:00Z", 1000)
SECOND = ("S01408764", "2020-09-02T00:00:56Z", 1000)
OTHER_AREA = ("S02000001", "2020-09-30T23:59:59.500Z", 3000)


def test_the_shape_of_the_contract(visited: FlaskClient) -> None:
    answer = visited.get("/api/visits?area=710006&storeid=S00339218&startdate=2020-09-01&enddate=2020-09-30")
    assert answer.status_code == 200
    assert answer.json == {
        "results": [
            {
                "store_id": "S00339218",
                "area": "710006",
                "store_name": "BHARAT STORE",
                "data": [{"date": "2020-09-02T00:00:53Z", "perimeter": 2000, "images": 2, "average_seconds": 0.25}],
            }
        ],
        "next": None,
    }
    entry = answer.json["results"][0]["data"][0]
    assert (type(entry["perimeter"]), type(entry["average_seconds"])) == (int, float)


def test_flat_gives_a_row_a_visit(visited: FlaskClient) -> None:
    answer = visited.get("/api/visits?storeid=S02000001&format=flat")
    assert answer.json["results"] == [
        {
            "store_id": "S02000001",
            "area": "710009",
            "store_name": "Müller, Söhne & Cie",
            "date": "2020-09-30T23:59:59.500Z",
            "perimeter": 3000,
        }
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"area": "710006"}, [FIRST, OCTOBER, SECOND]),
        ({"area": "710009"}, [OTHER_AREA]),
        ({"storeid": "S00339218"}, [FIRST, OCTOBER]),
        ({"store": "S00339218"}, [FIRST, OCTOBER]),
        ({"store_id": "S00339218"}, [FIRST, OCTOBER]),
        ({"startdate": "2020-09-01"}, [FIRST, OCTOBER, SECOND, OTHER_AREA]),
        ({"startDate": "2020-09-03"}, [OCTOBER, OTHER_AREA]),
        ({"endDate": "2020-09-30"}, [FIRST, SECOND, OTHER_AREA]),
        ({"enddate": "2020-09-02"}, [FIRST, SECOND]),
        ({"enddate": "2020-09-01"}, []),
        ({"startdate": "2020-09-02T00:00:53Z", "enddate": "2020-09-02T00:00:53Z"}, [FIRST]),
        ({"startdate": "2020-09-02 05:30:56 05:30", "enddate": "2020-09-02T05:30:56+05:30"}, [SECOND]),
        ({"startdate": "1599004853000", "enddate": "1599004853000"}, [FIRST]),
        ({"startdate": "2020-09-30 23:59:59.5", "enddate": "2020-09-30"}, [OTHER_AREA]),
        ({"area": "710006", "storeid": "S02000001"}, []),
        ({"area": "710006", "storeid": "S01408764"}, [SECOND]),
        ({"area": " 710009 ", "startdate": ""}, [OTHER_AREA]),
    ],
)
def test_filters(visited: FlaskClient, query: dict[str, str], expected: list[Any]) -> None:
    assert find(visited, **query) == expected


def test_a_plus_that_arrives_as_a_space_is_read(visited: FlaskClient) -> None:
    answer = visited.get(
        "/api/visits?format=flat&startdate=2020-09-02T05:30:56+05:30&enddate=2020-09-02T05:30:56+05:30"
    )
    assert [row["store_id"] for row in answer.json["results"]] == ["S01408764"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "area"),
        ("?area=", "area"),
        ("?format=flat", "area"),
        ("?area=99", "area"),
        ("?storeid=NOWHERE", "storeid"),
        ("?storeid=s00339218", "storeid"),
        ("?area=99&storeid=S00339218", "area"),
        ("?area=710006&storeid=NOWHERE", "storeid"),
        ("?area=71%00", "area"),
        ("?startdate=yesterday", "startdate"),
        ("?endDate=2020-13-01", "endDate"),
        ("?startdate=2020-09-02&enddate=2020-09-01", "startdate"),
        ("?area=710006&format=csv", "format"),
        ("?area=710006&per_page=0", "per_page"),
        ("?area=710006&per_page=50001", "per_page"),
        ("?area=710006&per_page=x", "per_page"),
        ("?area=710006&cursor=x", "cursor"),
        ("?area=710006&cursor=WzFd", "cursor"),
        ("?area=710006&cursor=%C3%BC", "cursor"),
        ("?area=710006&total=perhaps", "total"),
    ],
)
def test_refused_by_name(visited: FlaskClient, query: str, field: str) -> None:
    answer = visited.get(f"/api/visits{query}")
    assert answer.status_code == 400
    assert list(answer.json) == ["error"]
    assert field.lower() in answer.json["error"].lower()


def test_total_is_given_where_asked_for(visited: FlaskClient) -> None:
    assert "total" not in visited.get("/api/visits?area=710006").json
    answer = visited.get("/api/visits?area=710006&per_page=1&total=1").json
    assert answer["total"] == 3
    assert answer["next"]
    assert visited.get("/api/visits?area=710006&storeid=S02000001&total=1").json["total"] == 0


@pytest.mark.parametrize("per_page", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("form", ["grouped", "flat"])
def test_pages_hold_every_visit_once_and_in_order(app: Flask, client: FlaskClient, per_page: int, form: str) -> None:
    stores = {f"S{number}": (str(number % 2), "x") for number in range(5)}
    hands.add_stores(app, stores)
    times = ["2020-01-01", "2020-01-01", "2020-01-02", "2020-01-01T00:00:00.000001Z"]
    for _ in range(2):
        hands.submit(client, *[hands.visit(store, 1, time) for time in times for store in reversed(stores)])
    hands.work_off(app)
    expected = [(store, "2020-01-01T00:00:00Z") for store in ("S0", "S2", "S4") for _ in range(4)]
    expected += [(store, "2020-01-01T00:00:00.000001Z") for store in ("S0", "S2", "S4") for _ in range(2)]
    seen: list[tuple[str, str]] = []
    cursor = None
    while True:
        query = {"area": "0", "enddate": "2020-01-01", "per_page": per_page, "format": form, "total": 1}
        answer = client.get("/api/visits", query_string=query | ({"cursor": cursor} if cursor else {})).json
        if form == "flat":
            page = [(row["store_id"], row["date"]) for row in answer["results"]]
        else:
            page = [(store["store_id"], entry["date"]) for store in answer["results"] for entry in store["data"]]
        assert answer["total"] == 18
        assert len(page) == per_page or answer["next"] is None
        seen += page
        cursor = answer["next"]
        if cursor is None:
            break
    assert seen == sorted(seen, key=lambda row: (row[0], row[1].replace("Z", "")))
    assert sorted(seen) == sorted(expected)


def test_a_job_that_is_not_finished_shows_its_settled_visits(app: Flask, client: FlaskClient) -> None:
    hands.add_stores(app)
    hands.submit(client, hands.visit(images=20), hands.visit("S01408764", 30))
    with app.app_context():
        hands.settle(hands.claim(images=20))
    assert find(client, area="710006") == [("S00339218", "2020-09-02T00:00:53Z", 20_000)]


def test_visits_of_more_stores_than_one_query_takes(app: Flask, client: FlaskClient, monkeypatch: Any) -> None:
    monkeypatch.setattr("app.domain.visits.STORES_A_QUERY", 3)
    stores = {f"S{number:02}": ("1", "x") for number in range(10)}
    hands.add_stores(app, stores)
    hands.submit(client, *[hands.visit(store) for store in stores if store not in ("S03", "S04", "S05", "S09")])
    hands.work_off(app)
    assert [row[0] for row in find(client, area="1")] == ["S00", "S01", "S02", "S06", "S07", "S08"]
    assert [row[0] for row in find(client, startdate="2020-01-01", per_page=4)] == ["S00", "S01", "S02", "S06"]
