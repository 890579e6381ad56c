"""The short form of `make soak`: the first kinds of faults, few images a second. Growth takes longer to be seen."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from soak import __main__ as soak
from soak.plot import svg


def test_a_service_behind_nginx_outlives_its_faults() -> None:
    report = soak.run(0.3, rate=40, fault_seconds=4, expects_no_growth=False)
    assert report.problems == []
    assert len(report.faults) >= 3
    assert len(report.load.jobs) > 3
    drawing = svg(report.watch.samples, report.faults, "a < b")
    assert ElementTree.fromstring(drawing).tag.endswith("svg")
    assert "Every accepted job is completed" in soak.summary(report)
