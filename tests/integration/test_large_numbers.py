"""Numbers that no row has, and no database could look for, wherever an address takes a number."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.integration.hands import add_stores, submit, visit

LARGE = "9" * 23
PARAMETER = re.compile("<[^>]*>")
NAMES = ("job", "job_id", "jobid", "visit", "after", "page", "per_page", "count")
QUERIES = ["", *(f"{name}={LARGE}" for name in NAMES)]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_no_number_is_too_large_to_be_answered(app: Flask, client: FlaskClient) -> None:
    add_stores(app)
    job_id = submit(client, visit(images=3))
    broken = []
    for rule in app.url_map.iter_rules():
        parameters = len(PARAMETER.findall(rule.rule))
        paths = {PARAMETER.sub(LARGE, rule.rule)}
        if parameters:  # only the last, behind what is there
            paths.add(PARAMETER.sub(LARGE, PARAMETER.sub(str(job_id), rule.rule, count=parameters - 1)))
            paths.add(PARAMETER.sub(str(job_id), rule.rule))
        for path in paths:
            for query in QUERIES:
                status = client.get(f"{path}?{query}").status_code
                if status >= 500:
                    broken.append(f"{status} {path}?{query}")
    assert broken == []
