"""What may be asked of any job, by the commands that make one, of a real web process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from app.cli import main
from testbed import processes
from tests.integration import photos

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

HOOK = "http://127.0.0.1:9/hook"
ASKED = ["--priority", "8", "--metadata", '{"tour": "Süd"}', "--callback-url", HOOK]


@pytest.fixture
def url(worker_env: dict[str, str], tmp_path: Path) -> Iterator[str]:
    port = processes.free_port()
    env = worker_env | {"STORAGE_URL": (tmp_path / "files").as_uri()}
    with processes.web(env, tmp_path / "web.log", port=port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "photo.jpg").write_bytes(photos.image())
    return str(tmp_path / "photo.jpg")


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    (tmp_path / "images.tsv").write_text("id\turl\n0\thttp://127.0.0.1:9/0\n")
    return str(tmp_path / "images.tsv")


def call(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--patience", "20"], env={"IMAGEJOBS_URL": url})


def job(url: str, job_id: str) -> dict[str, Any]:
    shown = requests.get(f"{url}/api/status?jobid={job_id}", timeout=10).json()
    hooks = requests.get(f"{url}/api/webhooks?job_id={job_id}", timeout=10).json()["results"]
    return {name: shown[name] for name in ("priority", "metadata", "processors")} | {
        "hooks": [each["url"] for each in hooks]
    }


def test_upload_and_manifest_ask_the_same_of_their_jobs(url: str, photo: str, manifest: str) -> None:
    whole = {"priority": 8, "metadata": {"tour": "Süd"}, "hooks": [HOOK]}
    uploaded = call(url, "upload", photo, *ASKED, "--processors", "exif")
    assert (uploaded.exit_code, uploaded.stdout) == (0, "1\n"), uploaded.output
    assert job(url, "1") == whole | {"processors": ["exif"]}
    for number, more in ((2, []), (3, ["--queue", "images"]), (4, ["--queue", "batch", "--batch-size", "5"])):
        listed = call(url, "manifest", manifest, *ASKED, *more)
        assert (listed.exit_code, listed.stdout) == (0, f"{number}\n"), listed.output
        assert job(url, str(number)) == whole | {"processors": job(url, str(number))["processors"]}
        assert f"job {number}: its callback is signed with the secret " in listed.stderr
    plain = call(url, "upload", photo)
    assert (plain.stdout, "secret" in plain.stderr) == ("5\n", False)
    assert job(url, "5") == {"priority": 5, "metadata": None, "processors": None, "hooks": []}


def test_the_secret_of_a_callback_is_printed_whichever_command_makes_the_job(
    url: str, photo: str, tmp_path: Path
) -> None:
    visit = {"store_id": "S1", "image_url": ["http://127.0.0.1:9/0"], "visit_time": "2020-09-02"}
    (tmp_path / "job.json").write_text(json.dumps({"count": 1, "visits": [visit], "callback_url": HOOK}))
    submitted = call(url, "submit", str(tmp_path / "job.json"))
    assert submitted.stdout == "1\n"
    told = [call(url, "upload", photo, *ASKED).stderr for _ in range(2)]
    secrets = [text.rpartition("is signed with the secret ")[2].strip() for text in (submitted.stderr, *told)]
    assert all(len(secret) > 20 for secret in secrets)
    assert secrets[0] != secrets[1] == secrets[2], "the second upload makes no second job"


def test_what_is_asked_tells_one_upload_from_another(url: str, photo: str) -> None:
    for expected, more in (("1", []), ("2", ["--priority", "7"]), ("2", ["--priority", "7"]), ("1", [])):
        assert call(url, "upload", photo, *more).stdout == f"{expected}\n"


def test_what_cannot_be_asked_ends_with_2_and_makes_no_job(url: str, photo: str, manifest: str) -> None:
    # Those of an upload go into the address, which holds less.
    for file, long in (
        (["upload", photo], "URI Too Long"),
        (["manifest", manifest], "metadata: longer than 16384 bytes"),
    ):
        for options, sentence in (
            (["--metadata", "tour 7"], """not an object in JSON, like '{"tour": 7}'"""),
            (["--metadata", "[7]"], "not an object in JSON"),
            (["--priority", "10"], "10 is not in the range 0<=x<=9"),
            (["--callback-url", "http://10.0.0.1/"], "callback_url: the address is private"),
            (["--metadata", json.dumps({"long": "x" * 17_000})], long),
        ):
            done = call(url, *file, *options)
            assert (done.exit_code, done.stdout) == (2, ""), done.output
            assert sentence in done.stderr
    assert requests.get(f"{url}/api/jobs", timeout=10).json()["results"] == []
