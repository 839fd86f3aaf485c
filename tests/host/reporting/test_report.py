# SPDX-License-Identifier: Apache-2.0
"""The report: every figure where it belongs, nothing from a model file that the page would run or obey."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from host.reporting.html_page import STYLE
from host.reporting.report import report_html, report_text, write_report
from nonzero.errors import UserError
from tests.support.reports import LAYER, bars, example, page, section, table

HOSTILE = "</title><script>alert('1')</script>\"&\x1b[2J\u202e\ud800$x_{"
HOSTILE_SHOWN = "</title><script>alert('1')</script>\"&\\x1b[2J\\u202e\\ud800$x_{"


def test_the_text_has_the_figures() -> None:
    text = report_text(example())
    lines = [re.sub(r" +", " ", line) for line in text.split("\n")]
    assert lines == [
        "nonzero 0.1.0, lenet, default, mnist",
        "layer outputs inputs kept density bits/weight bound PE balance cycles ideal",
        "fc1 30 784 2,000 8.50% 9.25 8.88 1.05 1,010 900",
        "fc2 10 784 2,000 8.50% 9.25 8.88 1.05 1,010 900",
        "total 2,432 10.00% 9.88 8.77 1,234 987",
        "weights kept: 10.00% (2,432 of 24,320)",
        "test error: 1.63% (dense 1.64%, pruned 1.59%, shared 1.61%)",
        "on the chip: 2.9 KiB (32.4 times less, dense float32 95.0 KiB)",
        "bits per weight kept: 9.88 (bound of code and position 8.77)",
        "memory image: 3,456 bytes",
        "cycles per image: 1,234 (1.25 times the ideal, ideal 987, limit 1,111)",
        "memory by purpose:",
        " weights 1.5 KiB 50.00%", " skips 0.1 KiB 3.33%", " slices 1.2 KiB 40.00%", " biases 0.1 KiB 4.58%",
        " program 0.1 KiB 2.08%",
        "note: not pruned: packed as it is",
    ]


def test_columns_of_the_text_line_up_and_fit() -> None:
    layers = [{**LAYER, "name": name, "rows": rows} for name, rows in (("x" * 60, 8), ("fc2", 4096))]
    header, first, second, total = report_text(example(layers=layers)).split("\n")[1:5]
    assert len(header) == len(first) == len(second) == len(total) <= 110
    ends = [line.index(cell) + len(cell) for line, cell in
            ((header, "outputs"), (first, " 8 "), (second, "4,096"))]
    assert ends[0] == ends[1] - 1 == ends[2]


def test_the_page_has_the_tiles() -> None:
    tiles = [list(one.itertext()) for one in page(example()).iter("div") if one.get("class") == "tile"]
    assert ["weights kept", "10.00%", "2,432 of 24,320"] in tiles
    assert ["test error", "1.63%", "dense 1.64%, pruned 1.59%, shared 1.61%"] in tiles
    assert ["on the chip", "2.9 KiB", "32.4 times less, dense float32 95.0 KiB"] in tiles
    assert ["cycles per image", "1,234", "1.25 times the ideal, ideal 987, limit 1,111"] in tiles


def test_the_page_has_the_layers() -> None:
    header, first, _, total = table(page(example()), "layers")
    row = dict(zip(header, first, strict=True))
    assert row == {"layer": "fc1", "outputs": "30", "inputs": "784", "kept": "2,000", "density": "8.50%",
                   "entries": "2,100", "skips": "100", "index bits": "4", "passes": "1",
                   "bits/weight": "9.25", "bound": "8.88", "PE balance": "1.05", "active inputs": "19.10%",
                   "cycles": "1,010", "limit": "950", "ideal": "900"}
    assert dict(zip(header, total, strict=True))["limit"] == "1,111"


def test_the_storage_bar_is_to_scale() -> None:
    root = page(example())
    drawn = bars(root, "Memory on the chip by purpose")
    assert [tip for tip, _, _ in drawn] == \
        ["weights: 50.00%", "skips: 3.33%", "slices: 40.00%", "biases: 4.58%", "program: 2.08%"]
    assert [width for _, width, _ in drawn] == pytest.approx([360, 24, 288, 33, 15])
    rows = table(root, "storage")
    assert rows[1] == ["weights", "1.46", "50.00%", "4.93", "weight codes with their relative indices"]
    assert rows[-1] == ["total", "2.93", "", "9.87", ""]


def test_balance_and_cycles_are_to_scale() -> None:
    root = page(example())
    balance = bars(root, "Entries of each processing element")
    assert [tip for tip, _, _ in balance] == ["PE 0: 500", "PE 1: 520", "PE 2: 530", "PE 3: 550"] * 2
    assert balance[0][2] / balance[3][2] == pytest.approx(500 / 550, abs=0.001)
    cycles = bars(root, "Cycles of each layer")
    assert [tip for tip, _, _ in cycles] == ["cycles: 1,010", "limit: 950", "ideal: 900"] * 2
    assert cycles[2][1] / cycles[0][1] == pytest.approx(900 / 1010, abs=0.001)


def test_the_run_in_rtl_is_told() -> None:
    root = page(example())
    drawn = bars(root, "Run in RTL")
    assert [tip for tip, _, _ in drawn] == ["cycles: 1,250", "limit: 1,000", "ideal: 500", "predicted: 1,251"]
    assert drawn[2][1] / drawn[0][1] == pytest.approx(500 / 1250, abs=0.001)
    assert table(section(root, "Run in RTL"), "") == [
        ["figure", "value"], ["images run", "1,000"], ["images that differ from golden, any layer", "2"],
        ["images whose cycles differ from the prediction", "1"], ["test error on these images", "1.25%"],
        ["cycles per image", "1,250.0"], ["predicted", "1,251.0 (x 1.00)"],
        ["limit with broadcasts", "1,000.0 (x 1.25)"],
        ["ideal: useful MACs / PEs", "500.0 (x 2.50)"], ["seconds", "74.3"]]


CHECK = {
    "reference": HOSTILE, "inputs": 1500, "agreement": 0.98765, "relative_error": 0.0321, "points": 1.235,
    "worst": {"step": "pruning", "layer": "fc1"},
    "steps": [{"name": "pruning", "points": 1.5, "unit": "agreement", "change": 0.25},
              {"name": "quantisation", "points": -0.265, "unit": "agreement", "change": 0.01}],
    "layers": [{"name": HOSTILE, "clipped": 0.0123, "snr_db": {"pruning": None, "quantisation": 40.26}},
               {"name": "fc2", "clipped": 0.0, "snr_db": {"pruning": 12.0, "quantisation": -3.0}}]}


def test_the_comparison_with_floats_is_told() -> None:
    root = page(example(check=CHECK))
    told = section(root, "Beside floats")
    assert table(told, "lost") == [["step", "points lost", "of", "change of the outputs"],
                                   ["pruning", "1.50", "agreement", "25.00%"],
                                   ["quantisation", "-0.27", "agreement", "1.00%"]]
    assert table(told, "ratios") == [
        ["layer", "signal to noise, dB: pruning", "signal to noise, dB: quantisation", "clipped"],
        [HOSTILE_SHOWN, "-", "40.3", "1.23%"], ["fc2", "12.0", "-3.0", "0.00%"]]
    assert told.findall("p")[1].text == (f"Beside {HOSTILE_SHOWN} on 1,500 inputs: the greatest output is the same on "
                                         "98.77% of the inputs, relative error 3.21%.")
    tiles = [list(one.itertext()) for one in root.iter("div") if one.get("class") == "tile"]
    assert ["agreement", "98.77%", "relative error 3.21%, 1,500 inputs"] in tiles
    assert "agreement:            98.77% (relative error 3.21%, 1,500 inputs)" in report_text(example(check=CHECK))
    alone = report_text(example(check={**CHECK, "agreement": None}))
    assert "relative error:       3.21% (1,500 inputs)" in alone and "agreement:" not in alone


def test_error_curves_are_to_scale() -> None:
    root = page(example())
    steps = section(root, "Accuracy at every step")
    assert [one.findtext("title") for one in steps.iter("circle")] == \
        ["test error, % load: 1.64", "test error, % prune and retrain: 1.59"]
    heights = [170 - float(one.get("cy") or 0) for one in steps.iter("circle")]
    assert heights[1] / heights[0] == pytest.approx(1.59 / 1.64, abs=0.002)
    assert [one.findtext("title") for one in section(root, "Pruning").iter("circle")] == \
        ["held-out error, % 50.00%: 2.25", "held-out error, % 10.00%: 1.75"]
    assert table(section(root, "Pruning"), "")[2] == ["2", "10.00%", "3,424", "41.0", "0.0456", "1.75%"]
    assert table(root, "steps")[3] == ["verify", "2.00", "-", "every weight read back"]


def test_long_pruning_histories_do_not_overprint() -> None:
    history = [{"round": number, "density": 0.9 ** number, "held_out_error": 2.0} for number in range(1, 41)]
    drawn = section(page(example(prune_history=history)), "Pruning")
    assert len(list(drawn.iter("circle"))) == 40
    last = f"{100 * 0.9 ** 40:.2f}%"
    assert last in {one.text for one in drawn.iter("text")}
    places = sorted({float(one.get("x") or 0) for one in drawn.iter("text")})
    assert min(after - before for before, after in itertools.pairwise(places)) > 60


def hostile() -> dict[str, Any]:
    """A report in which every text that a user or a file provides is hostile."""
    layers = [{**LAYER, "name": HOSTILE, "rows": 30}]
    steps = [{"name": HOSTILE, "seconds": 1.0, "note": HOSTILE, "test_error": 1.0}] * 2
    return example(network=HOSTILE, source=HOSTILE, dataset=HOSTILE, preset=HOSTILE, tool=HOSTILE,
                   notes=[HOSTILE], config={"pes": 4, HOSTILE: HOSTILE}, config_hash=HOSTILE, layers=layers,
                   steps=steps, storage_bits={HOSTILE: 8})


def test_hostile_names_are_only_text() -> None:
    root = page(hostile())
    assert {one.tag for one in root.iter()} <= {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "p", "div", "span", "b", "i",
        "section", "table", "tr", "th", "td", "svg", "text", "rect", "line", "polyline", "circle"}
    assert root.findtext("head/title") == root.findtext("body/header/h1") == HOSTILE_SHOWN
    assert table(root, "layers")[1][0] == HOSTILE_SHOWN
    assert table(root, "storage")[1][0] == HOSTILE_SHOWN
    assert table(root, "steps")[1][::3] == [HOSTILE_SHOWN, HOSTILE_SHOWN]
    assert all(line.isprintable() for line in report_html(hostile()).split("\n"))


def test_hostile_names_do_not_reach_the_terminal() -> None:
    text = report_text(hostile())
    assert f"note: {HOSTILE_SHOWN}" in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_the_page_refers_to_nothing() -> None:
    root = page(example())
    attributes = {name for one in root.iter() for name in one.attrib}
    assert attributes.isdisjoint({"src", "href", "style", "onload", "onclick", "action"})
    assert "url(" not in STYLE and "@import" not in STYLE
    [policy] = [one.get("content") for one in root.iter("meta") if one.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_every_class_of_a_series_has_a_colour() -> None:
    storage = {f"purpose {number}": 1 for number in range(9)}
    used = {name for one in page(example(storage_bits=storage)).iter()
            for name in (one.get("class") or "").split() if re.fullmatch(r"s\d+", name)}
    assert {"s0", "s6"} <= used <= set(re.findall(r"\.(s\d) \{", STYLE))


def test_files_are_written(tmp_path: Path) -> None:
    report = example(extra={"kept": True}, test_error_engine=float("nan"))
    write_report(tmp_path / "new" / "out", report)
    out = tmp_path / "new" / "out"
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]
    content = (out / "report.json").read_text()
    assert json.loads(content) == json.loads(json.dumps({**report, "test_error_engine": None}))
    assert content.index('"bits_per_weight"') < content.index('"extra"') < content.index('"tool"')
    assert '\n  "seed": 7,\n' in content
    assert (out / "report.html").read_text(encoding="utf-8") == report_html(report)


def test_hostile_names_can_be_written(tmp_path: Path) -> None:
    write_report(tmp_path, hostile())
    assert json.loads((tmp_path / "report.json").read_text())["network"] == HOSTILE


def test_a_failure_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.json").write_text("old")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError) as caught:
        write_report(tmp_path, example())
    assert str(caught.value) == (f"'{tmp_path / 'report.json'}' cannot be written (No space left on device); "
                                 "free it or name another output")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == "old"


def fail(*_: Any) -> None:
    raise OSError(28, "No space left on device")
