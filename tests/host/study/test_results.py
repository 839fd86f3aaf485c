# SPDX-License-Identifier: Apache-2.0
"""Rows of a study: means over the seeds, and those that the documentation keeps."""

import json
from dataclasses import replace

import pytest

from host.study import results
from host.study.measuring import Outcome
from host.study.queue import Job
from tests.support.paths import ROOT

DOCS = ROOT / "docs"


@pytest.mark.parametrize(("file", "network"), [("study.json", "lenet-300-100"), ("study-lenet-5.json", "lenet-5")])
def test_the_rows_that_are_kept_stand_in_the_documentation(file, network):
    kept = json.loads((DOCS / file).read_text())
    assert kept["network"] == network
    text = (DOCS / "study.md").read_text()
    rows = results.table_rows(kept["rows"])
    assert len(rows) == len(kept["rows"]) > 5
    for name, _, *cells in rows:
        assert f"| {' | '.join([name, *cells])} |\n" in text
    assert len(kept["measured"]) == sum(len(row["seeds"]) for row in kept["rows"])


def test_rows_are_means_over_the_seeds():
    jobs = [Job("cut", {"start": "dense", "kept": kept}, seed) for kept in (0.5, 0.2, 0.1) for seed in (0, 1)]
    measured = {one.key: Outcome(30 + one.seed, 100, 800, "chip", 1.0 + one.seed, 5.0) for one in jobs[:3]}
    weights = {"fc1": {"edges": [0, 1, 2], "before": [30, 40], "after": [5, 9]}}
    measured[jobs[1].key] = replace(measured[jobs[1].key], weights=weights)
    rows = results.study_rows("net", jobs, measured)
    assert [row["setting"]["kept"] for row in rows] == [0.5, 0.2]
    assert rows[0] == {"method": "cut", "setting": {"start": "dense", "kept": 0.5}, "network": "net",
                       "parameters": 30.5, "kept": 30.5, "bits": 800, "place": "chip", "test_error": 1.5,
                       "test_errors": [1.0, 2.0], "seeds": [0, 1], "spread": pytest.approx(0.5 ** 0.5), "seconds": 5.0,
                       "layers": {"fc1": {"weights": 70, "kept": 14}}}
    assert results.layer_rows(rows) == [["cut, kept 0.5", "fc1", "70", "14", "20.00"]]
    assert results.table_rows(rows[:1])[0] == ["cut, kept 0.5", "net", "30", "30.50", "0.1", "chip", "1.50", "0.71",
                                               "2", "5"]
