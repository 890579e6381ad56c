"""What /health and `imagejobs doctor` say of the storage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flask import Flask

from app.domain import doctor
from app.domain.doctor import Level


def test_a_storage_that_cannot_be_used_is_said_and_stops_no_job_by_url(
    make_app: Callable[..., Flask], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    app = make_app(STORAGE_URL=(tmp_path / "file" / "files").as_uri())
    answer = app.test_client().get("/health")
    assert (answer.status_code, answer.json) == (200, {"status": "degraded", "storage": "down"})
    with app.app_context():
        [said] = [answer for answer in doctor.examine() if answer.about == "storage"]
    assert said.level is Level.BAD
    assert str(tmp_path / "file" / "files") in said.sentence
