"""The OpenAPI document and the page that shows it."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

OUTSIDE = re.compile(r"(?:src|href)=\"(?!/)")


@pytest.fixture
def document(client: FlaskClient) -> dict:
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json


def test_it_describes_every_route_of_the_contract(document: dict) -> None:
    assert document["openapi"] == "3.1.1"
    assert set(document["paths"]) == {
        "/",
        "/api/submit/",
        "/api/status",
        "/api/jobs",
        "/api/jobs/{job_id}",
        "/api/jobs/{job_id}/images",
        "/api/jobs/{job_id}/errors",
        "/api/jobs/{job_id}/results.json",
        "/api/jobs/{job_id}/results.jsonl",
        "/api/jobs/{job_id}/results.csv",
        "/api/jobs/{job_id}/results.parquet",
        "/api/jobs/{job_id}/results.coco.json",
        "/api/jobs/{job_id}/results.megadetector.json",
        "/api/jobs/{job_id}/report",
        "/api/jobs/{job_id}/report.{ending}",
        "/api/jobs/{job_id}/images/{seq}/file",
        "/upload_image_batch",
        "/images",
        "/images/results/{filename}",
        "/images/view/{filename}",
        "/image_batches",
        "/uploads/{name}",
        "/upload",
        "/process_redis",
        "/results/{id}",
        "/results/{id}.{ending}",
        "/api/jobs/{job_id}/cancel",
        "/api/jobs/{job_id}/retry",
        "/api/keys",
        "/api/keys/{key_id}",
        "/api/keys/{key_id}/revoke",
        "/api/v1/images_info/",
        "/api/v1/images_info_async/",
        "/api/v1/batch_predict/",
        "/ping/",
        "/api/visits",
        "/api/webhooks",
        "/api/webhooks/{webhook_id}",
        "/api/webhooks/{webhook_id}/deliveries",
        "/api/webhooks/{webhook_id}/rotate",
        "/api/webhooks/{webhook_id}/test",
        "/api/deliveries/{delivery_id}",
        "/api/deliveries/{delivery_id}/redeliver",
        "/health",
        "/live",
        "/metrics",
    }
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            good = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
            assert good and all(answer["description"] for answer in good)


def test_errors_are_described_as_they_are(document: dict) -> None:
    submit = document["paths"]["/api/submit/"]["post"]
    assert set(submit["responses"]) == {"201", "400", "401", "403", "409", "413", "429", "503"}
    for status in ("400", "401", "403", "409", "413", "429", "503"):
        schema = submit["responses"][status]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}
    assert list(document["components"]["schemas"]["ErrorAnswer"]["properties"]) == ["error"]
    assert all(
        "422" not in operation["responses"]
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if not path.startswith("/api/v1/")
    )


def test_fields_carry_the_names_of_the_contract(document: dict) -> None:
    schemas = document["components"]["schemas"]
    assert {"count", "visits", "priority", "metadata"} <= set(schemas["SubmitBody"]["properties"])
    assert set(schemas["VisitBody"]["properties"]) == {"store_id", "image_url", "visit_time"}
    names = {parameter["name"] for parameter in document["paths"]["/api/visits"]["get"]["parameters"]}
    assert names == {"area", "storeid", "startdate", "enddate", "format", "per_page", "cursor", "total"}
    headers = document["paths"]["/api/submit/"]["post"]["parameters"]
    assert [(header["name"], header["in"]) for header in headers] == [("Idempotency-Key", "header")]


def test_every_reference_leads_somewhere(document: dict) -> None:
    def walk(node: object) -> None:
        if isinstance(node, dict):
            reference = node.get("$ref")
            if reference:
                assert reference.rpartition("/")[2] in document["components"]["schemas"], reference
            for inner in node.values():
                walk(inner)
        elif isinstance(node, list):
            for inner in node:
                walk(inner)

    walk(document)


def test_the_page_asks_nothing_of_the_outside(client: FlaskClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert not OUTSIDE.search(page.text)
    for address in re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text):
        assert client.get(address).status_code == 200, address
    assert "'unsafe-inline'" not in page.headers["Content-Security-Policy"].partition("style-src")[0]


def test_it_says_what_needs_a_key_and_which(document: dict) -> None:
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    submit, jobs = document["paths"]["/api/submit/"]["post"], document["paths"]["/api/jobs"]["get"]
    assert submit["security"] == jobs["security"] == [{"key": []}]
    assert submit["description"].endswith("Needs `submit`.")
    assert jobs["description"].endswith("Needs `read`.")
    assert document["paths"]["/api/keys"]["get"]["description"].endswith("Needs `admin`.")
    for path in ("/", "/health", "/live"):
        assert "security" not in document["paths"][path]["get"]
        assert "401" not in document["paths"][path]["get"]["responses"]
