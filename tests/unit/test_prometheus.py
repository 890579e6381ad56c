"""Alert rules, scrape configuration and dashboard, checked by Prometheus's own promtool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from flask.testing import FlaskClient

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "deploy/prometheus"
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((PROJECT / "deploy/grafana/imagejobs.json").read_text())


def promtool(*words: str) -> None:
    program = shutil.which("promtool")
    assert program, "promtool is not installed; testbed/install.sh installs it"
    done = subprocess.run([program, *words], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def panel_expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_each_alert_fires_where_it_must_and_not_where_all_is_well() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")


def test_every_alert_is_seen_firing() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"]]
    names = {rule["alert"] for rule in RULES}
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == names
    assert {check["alertname"] for check in tests[0]["alert_rule_test"]} == names


def test_scrape_configuration_is_read(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yml").read_text()
    (tmp_path / "token").write_text("secret")
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/metrics_token", str(tmp_path / "token")))
    shutil.copy(FOLDER / "alerts.yml", tmp_path)
    promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_panels_ask_what_prometheus_can_answer(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(panel_expressions())]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "panels.yml"))


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_alerts_and_panels_name_metrics_that_there_are(client: FlaskClient) -> None:
    client.get("/live")
    known = set(re.findall(r"^# TYPE (\S+) ", client.get("/metrics").text, re.MULTILINE))
    for expr in panel_expressions() + [rule["expr"] for rule in RULES]:
        for name in re.findall(r"\bimagejobs_\w+", expr):
            assert name in known or name.removesuffix("_bucket") in known, name
