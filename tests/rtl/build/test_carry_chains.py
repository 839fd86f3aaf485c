# SPDX-License-Identifier: Apache-2.0
"""Carry chains of an ECP5 take the logic before them, and nothing comes out otherwise than before."""

import copy
import json

import pytest
from amaranth.back import rtlil

from rtl.build.carry_chains import improve_carries
from rtl.build.tools import FAMILIES, find_tools, run_steps
from rtl.engine.accumulate import Accumulator
from rtl.engine.queue import Queue
from rtl.engine.requantize import Requantizer
from rtl.engine.scanner import Scanner
from rtl.engine.slices import SliceLookup
from rtl.engine.walker import Walker
from rtl.ports import component_ports
from tests.support.units import UNIT

LOGIC = ("LUT4", "CCU2C", "PFUMX", "L6MUX21")
FAMILY = FAMILIES["ecp5"]

PROOF = """read_json whole.json; design -reset
read_verilog +/lattice/common_sim.vh +/lattice/ccu2c_sim.vh
read_json before.json; read_json after.json
miter -equiv before after miter; hierarchy -check -top miter; proc; flatten; opt -full
sat -verify -prove trigger 0 miter
"""

# Each with what at least happens to its chains.
UNITS = [
    (Accumulator(UNIT), "absorbed"), (SliceLookup(UNIT, 2), "absorbed"), (Scanner(UNIT), "absorbed"),
    (Walker(UNIT), "absorbed"), (Queue(12, 32, limit=20), "begun"), (Requantizer(UNIT), "begun"),
]


def synthesise(unit, place):
    (place / "unit.il").write_text(
        rtlil.convert(unit, name="unit", ports=component_ports(unit), emit_src=False))
    (place / "unit.ys").write_text(f"read_rtlil unit.il; {FAMILY.prepare}; synth_ecp5 -top unit; "
                                   f"{FAMILY.finish}; write_json unit.json\n")
    run_steps('"$YOSYS" -q -s unit.ys\n', place, find_tools(FAMILY))
    return json.loads((place / "unit.json").read_text())


def nets(module, *, driven, logic):
    """Nets that cells read or drive (``driven``), LUTs and carries (``logic``) or others, ports included."""
    found = {bit for cell in module["cells"].values() if (cell["type"] in LOGIC) == logic
             for port, bits in cell["connections"].items() if (cell["port_directions"][port] == "output") == driven
             for bit in bits}
    if not logic:
        found |= {bit for port in module["ports"].values() if (port["direction"] == "input") == driven
                  for bit in port["bits"]}
    return {bit for bit in found if isinstance(bit, int)}


def prove_equal(before, after, place):
    """Yosys proves that the same comes out of LUTs and carries, with anything at inputs that are not connected.

    It reads the netlist as a whole first: no cell is called like a net.
    """
    (place / "whole.json").write_text(json.dumps(after))
    before, after = (copy.deepcopy(one["modules"]["unit"]) for one in (before, after))
    free = max(nets(before, driven=True, logic=True) | nets(before, driven=True, logic=False)) + 1
    unconnected = [cell["connections"]["CIN"] for cell in after["cells"].values()
                   if cell["type"] == "CCU2C" and cell["connections"]["CIN"] == ["x"]]
    for number, bits in enumerate(unconnected):
        bits[:] = [free + number]
    inputs = sorted(nets(before, driven=True, logic=False)) + [free + number for number in range(len(unconnected))]
    outputs = sorted(nets(before, driven=False, logic=False) & nets(before, driven=True, logic=True))
    for name, module in (("before", before), ("after", after)):
        ports = {"inputs": {"direction": "input", "bits": inputs}, "outputs": {"direction": "output", "bits": outputs}}
        cells = {cell_name: cell for cell_name, cell in module["cells"].items() if cell["type"] in LOGIC}
        for cell in cells.values():
            cell["connections"] = {port: bits for port, bits in cell["connections"].items() if bits != ["x"]}
        (place / f"{name}.json").write_text(json.dumps(
            {"modules": {name: {"attributes": {}, "ports": ports, "cells": cells, "netnames": {}}}}))
    (place / "proof.ys").write_text(PROOF)
    run_steps('"$YOSYS" -q -s proof.ys\n', place, find_tools(FAMILY))


@pytest.mark.parametrize(("unit", "kind"), UNITS, ids=[type(unit).__name__ for unit, _ in UNITS])
def test_the_same_comes_out_of_units(unit, kind, tmp_path):
    before = synthesise(unit, tmp_path)
    after = copy.deepcopy(before)
    counts = improve_carries(after)
    assert counts[kind] > 0
    cells = [[cell["type"] for cell in one["modules"]["unit"]["cells"].values()] for one in (before, after)]
    assert cells[1].count("CCU2C") == cells[0].count("CCU2C")
    assert cells[1].count("LUT4") <= cells[0].count("LUT4") - counts["absorbed"] + counts["begun"]
    prove_equal(before, after, tmp_path)
