"""The OpenAPI document holds for whatever is sent: the short form of ``make fuzz``, the same cases every time."""

from __future__ import annotations

import pytest
from flask import Flask

from tests.fuzz import fuzz


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_every_answer_is_as_the_document_says(app: Flask) -> None:
    counts = fuzz(app, cases=200, seed=1)
    assert counts.total() >= 200
    operations = {operation for operation, _status in counts}
    assert {"POST /api/submit/", "GET /api/status", "GET /api/visits", "GET /api/jobs/{job_id}/images"} <= operations
    assert {201, 200, 400, 404} <= {status for _operation, status in counts}
