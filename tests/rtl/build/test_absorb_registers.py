# SPDX-License-Identifier: Apache-2.0
"""Registers go into the block RAMs and multipliers of an ECP5 where that changes nothing, and nowhere else."""

import copy
import json
from dataclasses import replace

import pytest
from amaranth.back import rtlil

from rtl.build.absorb_registers import absorb_registers
from rtl.build.tools import FAMILIES, find_tools, run_steps
from rtl.engine.entries import EntryMemory
from rtl.ports import component_ports
from tests.support.units import UNIT

CLOCK, ENABLE, RESET = 2, 3, 4
OUT = 20
"""The first of the nets at the block's outputs; the registers' own come ten later."""


def register(place, **changes):
    parameters = {"CEMUX": "CE", "CLKMUX": "CLK", "GSR": "DISABLED", "LSRMUX": "LSR", "REGSET": "RESET"}
    connections = {"CLK": [CLOCK], "CE": [ENABLE], "LSR": ["0"], "DI": [OUT + place], "Q": [OUT + 10 + place]}
    return {"type": "TRELLIS_FF", "attributes": {},
            "parameters": {**parameters, **{name: one for name, one in changes.items() if name in parameters}},
            "connections": {**connections, **{name: one for name, one in changes.items() if name in connections}},
            "port_directions": {**dict.fromkeys(connections, "input"), "Q": "output"}}


def block(kind, outputs, **inputs):
    return {"type": kind, "attributes": {}, "parameters": {},
            "connections": {**{port: [OUT + place] for place, port in enumerate(outputs)}, **inputs},
            "port_directions": {**dict.fromkeys(outputs, "output"), **dict.fromkeys(inputs, "input")}}


def netlist(cells):
    return {"modules": {"top": {"ports": {}, "cells": dict(cells)}}}


def ram(outputs=("DOB0", "DOB7"), bits=18):
    made = block("DP16KD", outputs, CLKA=[CLOCK], CLKB=[CLOCK])
    made["parameters"]["DATA_WIDTH_A"] = f"{bits:032b}"
    return made


def test_a_block_ram_takes_the_registers_behind_it():
    cells = {"ram": ram(), "low": register(0), "high": register(1), "other": register(5)}
    before = netlist(cells)
    assert absorb_registers(before) == {"DP16KD": 1, "TRELLIS_FF": 2}
    left = before["modules"]["top"]["cells"]
    assert left.keys() == {"ram", "other"}
    assert left["ram"]["parameters"] == {"DATA_WIDTH_A": f"{18:032b}", "REGMODE_B": "OUTREG"}
    assert left["ram"]["connections"] == {"DOB0": [OUT + 10], "DOB7": [OUT + 11], "CLKA": [CLOCK], "CLKB": [CLOCK],
                                          "OCEB": [ENABLE]}
    assert left["ram"]["port_directions"]["OCEB"] == "input"


def test_a_wide_block_ram_takes_those_of_both_ports():
    cells = {"ram": ram(("DOB0", "DOA3"), 36), "low": register(0, CEMUX="1 "), "high": register(1, CEMUX="1 ")}
    changed = netlist(cells)
    assert absorb_registers(changed) == {"DP16KD": 1, "TRELLIS_FF": 2}
    taken = changed["modules"]["top"]["cells"]["ram"]
    assert taken["parameters"] == {"DATA_WIDTH_A": f"{36:032b}", "REGMODE_A": "OUTREG", "REGMODE_B": "OUTREG"}
    assert taken["connections"]["OCEA"] == taken["connections"]["OCEB"] == ["1"]


def test_a_wide_block_ram_takes_all_or_none():
    changed = netlist({"ram": ram(("DOB0", "DOA3"), 36), "low": register(0), "high": register(1, CE=[99])})
    assert absorb_registers(changed) == {}


def test_the_ports_of_a_block_ram_take_registers_of_their_own():
    cells = {"ram": ram(("DOB0", "DOA3")), "low": register(0), "high": register(1, CEMUX="1 ")}
    changed = netlist(cells)
    assert absorb_registers(changed) == {"DP16KD": 1, "TRELLIS_FF": 2}
    taken = changed["modules"]["top"]["cells"]["ram"]
    assert taken["parameters"] == {"DATA_WIDTH_A": f"{18:032b}", "REGMODE_A": "OUTREG", "REGMODE_B": "OUTREG"}
    assert (taken["connections"]["OCEA"], taken["connections"]["OCEB"]) == (["1"], [ENABLE])


def test_a_multiplier_takes_the_registers_behind_it():
    cells = {"product": block("MULT18X18D", ["P0", "P1"], A0=[7]), "low": register(0), "high": register(1)}
    changed = netlist(cells)
    assert absorb_registers(changed) == {"MULT18X18D": 1, "TRELLIS_FF": 2}
    taken = changed["modules"]["top"]["cells"]["product"]
    assert taken["parameters"] == {"REG_OUTPUT_CLK": "CLK0", "REG_OUTPUT_CE": "CE0", "REG_OUTPUT_RST": "RST0"}
    assert {port: taken["connections"][port] for port in ("P0", "P1", "CLK0", "CE0", "RST0")} \
        == {"P0": [OUT + 10], "P1": [OUT + 11], "CLK0": [CLOCK], "CE0": [ENABLE], "RST0": ["0"]}


def keep(cells):
    cells["high"]["attributes"]["keep"] = "1"


def use_elsewhere(cells):
    cells["adder"] = {"type": "LUT4", "parameters": {}, "attributes": {}, "connections": {"A": [OUT + 1]},
                      "port_directions": {"A": "input"}}


def loop(cells):
    cells["high"]["connections"].update({"DI": [9], "CE": [OUT + 1]})


@pytest.mark.parametrize("change", [
    lambda cells: cells.update(high=register(1, LSR=[RESET])),
    lambda cells: cells.update(high=register(1, REGSET="SET")),
    lambda cells: cells.update(high=register(1, CLKMUX="INV")),
    lambda cells: cells.update(high=register(1, CEMUX="INV")),
    lambda cells: cells.update(high=register(1, CE=[99])),
    lambda cells: cells.update(high=register(1, CEMUX="1 ")),
    lambda cells: cells["ram"]["connections"].update(CLKB=[99]),
    keep, use_elsewhere, loop,
], ids=["reset", "begins at one", "falling edge", "inverted enable", "another enable", "no enable", "another clock",
        "to be kept", "read by others", "no data"])
def test_registers_that_stay_where_they_are(change):
    cells = {"ram": ram(), "low": register(0), "high": register(1)}
    change(cells)
    changed = netlist(cells)
    before = copy.deepcopy(changed)
    assert absorb_registers(changed) == {}
    assert changed == before


def test_an_output_of_the_module_stays():
    changed = netlist({"ram": ram(), "low": register(0), "high": register(1)})
    changed["modules"]["top"]["ports"]["out"] = {"direction": "output", "bits": [OUT]}
    assert absorb_registers(changed) == {}


def test_the_entry_memory_lies_in_block_ram_with_its_registers(tmp_path):
    family = FAMILIES["ecp5"]
    config = replace(UNIT, entry_depth=1024)
    unit = EntryMemory(config)
    (tmp_path / "unit.il").write_text(
        rtlil.convert(unit, name="unit", ports=component_ports(unit), emit_src=False))
    (tmp_path / "unit.ys").write_text(f"read_rtlil unit.il; {family.prepare}; synth_ecp5 -top unit; "
                                     f"{family.finish}; write_json unit.json\n")
    run_steps('"$YOSYS" -q -s unit.ys\n', tmp_path, find_tools(family))
    changed = json.loads((tmp_path / "unit.json").read_text())
    count = absorb_registers(changed)
    cells = [cell for cell in changed["modules"]["unit"]["cells"].values()
             if cell["type"] in ("DP16KD", "TRELLIS_FF")]
    assert {cell["type"] for cell in cells} == {"DP16KD"}
    assert all(cell["parameters"]["REGMODE_B"] == "OUTREG" for cell in cells)
    # Those behind both ports of plane 0: entries, and biases.
    assert count == {"DP16KD": len(cells), "TRELLIS_FF": sum(config.plane_bits) + config.plane_bits[0]}
