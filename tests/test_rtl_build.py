# SPDX-License-Identifier: Apache-2.0
"""Building: arguments, clock, report, Verilog. Placing and routing is not part of the tests."""

import json

import pytest

from host.errors import run_command
from rtl.build import CONSTRAINTS, main, utilisation
from rtl.top import pll_dividers


def test_figures_come_from_the_report():
    report = {"fmax": {"a": {"achieved": 91.5}, "b": {"achieved": 200.0}},
              "utilization": {"TRELLIS_COMB": {"used": 8000}, "TRELLIS_FF": {"used": 4000}, "DP16KD": {"used": 64},
                              "MULT18X18D": {"used": 32}}}
    assert utilisation(report, 16) == {
        "fmax_mhz": 91.5, "luts": 8000, "ffs": 4000, "ram_blocks": 64, "dsps": 32, "luts_per_pe": 500,
        "ffs_per_pe": 250, "ram_blocks_per_pe": 4, "dsps_per_pe": 2}


@pytest.mark.parametrize("output", [50, 80, 100, 62.5])
def test_pll_dividers_give_the_clock(output):
    input_divider, feedback, output_divider = pll_dividers(25, output)
    assert 25 * feedback / input_divider == output
    assert 400 <= output * output_divider <= 800


def test_clocks_that_no_pll_makes_are_refused():
    with pytest.raises(ValueError, match=r"not 81\.3 MHz"):
        pll_dividers(25, 81.3)


@pytest.mark.parametrize("arguments, message", [
    (["--board", "nosuch"], "--board must be one of ulx3s-85f, not 'nosuch'"),
    (["--board", "../secret"], "--board must be one of"),
    (["--verilog", "--preset", "huge"], "preset must be one of tiny, default, wide"),
])
def test_bad_arguments(capsys, arguments, message):
    assert run_command(main, arguments) == 2
    assert message in capsys.readouterr().err


def test_verilog_of_a_small_engine(tmp_path):
    (tmp_path / "small.toml").write_text(
        'preset = "tiny"\nentry_depth = 64\nslice_depth = 64\nact_depth = 64\nacc_depth = 16\n')
    output = tmp_path / "engine.v"
    assert run_command(main, ["--verilog", "--config", str(tmp_path / "small.toml"), "-o", str(output)]) == 0
    text = output.read_text()
    assert "module nonzero_engine(" in text
    assert [path.name for path in tmp_path.glob("*.part")] == []


def test_committed_baselines_name_their_command():
    for path in CONSTRAINTS.glob("baseline_*.json"):
        baseline = json.loads(path.read_text())
        assert baseline["command"].startswith("python -m rtl.build")
        assert baseline["fmax_mhz"] > 0 and baseline["tools"]
