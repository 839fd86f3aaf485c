# SPDX-License-Identifier: Apache-2.0
"""Parts of a report that are absent are left out; figures that are zero divide nothing."""

from typing import Any

import pytest

from host.reporting.report import report_html, report_text
from tests.support.reports import FIGURES, LAYER, bars, example, page, section, table, titles


def test_absent_figures_of_the_run_in_rtl_are_left_out() -> None:
    rtl = {"images": 20, "cycles_per_image": 30.0, "limit_cycles_per_image": None, "predicted_cycles_per_image": 0.0}
    root = page(example(rtl=rtl))
    assert [tip for tip, _, _ in bars(root, "Run in RTL")] == ["cycles: 30", "predicted: 0"]
    assert table(section(root, "Run in RTL"), "")[1:] == \
        [["images run", "20"], ["cycles per image", "30.0"], ["predicted", "0.0"]]


ALL = ["Layers", "Memory on the chip by purpose", "Entries of each processing element",
       "Cycles of each layer", "Run in RTL", "Accuracy at every step", "Pruning", "Codebooks", "Engine"]


@pytest.mark.parametrize("gone", [None, ...])
@pytest.mark.parametrize(("keys", "missing"), [
    ([], []),
    (["storage_bits"], ["Memory on the chip by purpose"]),
    (["steps"], ["Accuracy at every step"]),
    (["prune_history"], ["Pruning"]),
    (["rtl"], ["Run in RTL"]),
    (["config", "config_hash"], ["Engine"]),
    (["layers"], ["Layers", "Entries of each processing element", "Cycles of each layer", "Codebooks"]),
    (["cycles_per_image", "test_error_engine", "dataset", "notes", "weights_kept", "dense_bytes"], []),
    ([*FIGURES, "layers"], ALL),
])
def test_absent_parts_are_left_out(keys: list[str], missing: list[str], gone: Any) -> None:
    report = example(**dict.fromkeys(keys, gone))
    assert titles(page(report)) == [title for title in ALL if title not in missing]
    assert "None" not in report_html(report) + report_text(report)


def test_absent_keys_of_layers_are_left_out() -> None:
    layers = [{"name": "fc1", "rows": 30, "pe_entries": [1, 2]}, {"name": "fc2", "useful_macs": 8.0}]
    report = example(layers=layers, config=..., rtl={}, storage_bits={}, steps=[{"name": "load"}], prune_history=[])
    root = page(report)
    assert titles(root) == ["Layers", "Entries of each processing element", "Accuracy at every step",
                            "Engine"]
    header, *rows, _ = table(root, "layers")
    assert header == ["layer", "outputs"]
    assert rows == [["fc1", "30"], ["fc2", "-"]]


def test_absent_figures_have_no_tile() -> None:
    report = {"weights_kept": 3, "weights_total": 12, "test_error_engine": None, "cycles_per_image": {}}
    tiles = [list(one.itertext()) for one in page(report).iter("div") if one.get("class") == "tile"]
    assert tiles == [["weights kept", "25.00%", "3 of 12"]]
    assert report_text(report) == "weights kept:         25.00% (3 of 12)"


def test_pruning_without_errors_is_a_table_alone() -> None:
    history = [{"round": number, "density": 0.5 ** number} for number in (1, 2)]
    root = page(example(prune_history=history))
    assert not list(section(root, "Pruning").iter("svg"))
    assert table(section(root, "Pruning"), "")[1:] == [[number, kept, "-", "-", "-", "-"]
                                                       for number, kept in (("1", "50.00%"), ("2", "25.00%"))]


def test_nothing_divides_by_zero() -> None:
    layers = [{**LAYER, "name": "fc1", "rows": 1, "pe_entries": [0, 0], "useful_macs": 0.0,
               "broadcasts": 0.0, "cycles": 0.0}]
    rounds = [{"density": 0.0, "held_out_error": 0.0}] * 2
    report = example(layers=layers, weights_kept=0, weights_total=0, onchip_bytes=0,
                     storage_bits={"weights": 0}, prune_history=rounds,
                     cycles_per_image={"predicted": 0.0, "ideal": 0.0, "limit": 0.0})
    assert titles(page(report)) == [title for title in ALL if not title.startswith("Memory")]
    assert "cycles per image:     0 (ideal 0, limit 0)" in report_text(report)
