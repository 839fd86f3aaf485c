# SPDX-License-Identifier: Apache-2.0
"""A unit that is placed alone."""

import json

import pytest

from nonzero.errors import run_command
from rtl.build.__main__ import main
from rtl.build.single_unit import UNITS
from rtl.config import PRESETS
from rtl.engine.scatter import ScatterWalker
from rtl.engine.walker import Walker
from tests.support.build_tools import EMPTY, SMALL, make_tools, pnr_report


def test_a_unit_is_placed_alone_and_shows_its_critical_path(tmp_path, monkeypatch, capsys):
    def step(kind, delay, cell):
        return {"type": kind, "delay": delay, "to": {"cell": cell}}

    report = {**json.loads(pnr_report(95)), "critical_paths": [
        {"from": "<async>", "to": "posedge clk", "path": [step("routing", 99, "pin")]},
        {"from": "posedge clk", "to": "posedge clk", "path": [step("clk-to-q", 0.5, "ff"), step("logic", 2, "lut")]},
    ]}
    make_tools(monkeypatch, tmp_path, YOSYS=f"grep -q 'module.*unit' unit.il && {EMPTY} > unit.json", ECPPACK="false",
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


@pytest.mark.parametrize("preset, walker", [("default", Walker), ("conv", ScatterWalker)])
def test_the_walker_alone_is_the_one_of_the_engine(preset, walker):
    assert type(UNITS["walker"](PRESETS[preset])) is walker
