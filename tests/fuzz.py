"""``make fuzz``: schemathesis on the OpenAPI document, against the service in this process.

Each operation gets cases that the document allows and cases that it does not; an answer must be one that the document
describes (status, type, schema, headers) and never 5xx. That whatever the document forbids is refused is not demanded:
an empty parameter counts as none, and what is unknown is not read.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from typing import Any

from flask import Flask
from flask_migrate import upgrade
from hypothesis import HealthCheck, Phase, given
from hypothesis import seed as seeded
from hypothesis import settings as bounded
from schemathesis import Case, GenerationMode, checks, openapi
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig

from app import create_app
from config import Settings
from tests.integration import hands

CHECKS: list[Any] = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
JOBS = 3  # in the tables, to be found: numbers of jobs are brought near theirs


def main() -> None:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imagejobs-fuzz-") as folder:
        env = {"DATABASE_URL": f"sqlite:///{folder}/test.db", "DATA_DIR": folder, "LOG_LEVEL": "ERROR"}
        app = create_app(Settings.from_env(env))
        with app.app_context():
            upgrade()
        start = time.monotonic()
        counts = fuzz(app, options.cases, options.seed)
    for (operation, status), count in sorted(counts.items()):
        print(f"{count:6}  {status}  {operation}")
    print(f"{counts.total()} cases in {time.monotonic() - start:.0f} s: every answer is as the document says")


def fuzz(app: Flask, cases: int, seed: int) -> Counter[tuple[str, int]]:
    """About ``cases`` in all, the same for the same seed; returns the answers by operation and status.

    Raises AssertionError with the smallest case that was answered otherwise than documented.
    """
    hands.add_stores(app)
    for _ in range(JOBS):
        hands.submit(app.test_client(), hands.visit(images=3), hands.visit("NOWHERE"))
    hands.work_off(app, hands.failed)
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    config = SchemathesisConfig(
        projects=ProjectsConfig(default=ProjectConfig(generation=GenerationConfig(modes=modes, deterministic=True)))
    )
    app.wsgi_app = _from_this_host(app.wsgi_app)  # type: ignore[method-assign]
    schema = openapi.from_wsgi("/openapi.json", app, config=config)
    operations = [found.ok() for found in schema.get_all_operations()]
    counts: Counter[tuple[str, int]] = Counter()
    # Where nothing is taken in there is one case, and nothing can be wrong with it.
    takers = [operation for operation in operations if _takes_any(operation)]
    for operation in operations:
        for mode in modes if operation in takers else modes[:1]:
            _fuzz_one(operation, mode, -(-cases // (2 * len(takers))), seed, counts)
    return counts


def _from_this_host(application: Any) -> Any:
    return lambda environ, start: application({"REMOTE_ADDR": "127.0.0.1"} | environ, start)


def _takes_any(operation: Any) -> bool:
    return bool(operation.path_parameters or operation.query or operation.headers or operation.body)


def _fuzz_one(operation: Any, mode: GenerationMode, cases: int, seed: int, counts: Counter[Any]) -> None:
    @seeded(seed)
    @bounded(
        max_examples=cases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    @given(case=operation.as_strategy(mode))
    def run(case: Case) -> None:
        if mode is GenerationMode.POSITIVE:
            _bring_near(case)
        answer = case.call()
        counts[operation.label, answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    run()


def _bring_near(case: Case) -> None:
    """Make the case more likely to be taken: a number of a job that may exist, times that are times, a true count."""
    if "job_id" in case.path_parameters:
        case.path_parameters["job_id"] %= 2 * JOBS
    for name in {"jobid", "startdate", "enddate", "cursor"} & set(case.query):
        number = len(str(case.query[name]))
        case.query[name] = {"jobid": str(number % 8), "cursor": ""}.get(name, f"20{number % 100:02}-01-31")
    if isinstance(case.body, dict) and isinstance(case.body.get("visits"), list):
        case.body["count"] = len(case.body["visits"])
        for visit in case.body["visits"]:
            visit["visit_time"] = f"20{len(str(visit)) % 100:02}-01-31"


if __name__ == "__main__":
    main()
