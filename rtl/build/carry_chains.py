# SPDX-License-Identifier: Apache-2.0
"""Absorbs LUTs into the ECP5 carry cells (``CCU2C``) that read them, and shortens carry chains.

Each half of a ``CCU2C`` has a LUT4 (propagate) and a LUT2 of its first two inputs (generate) that share four table
bits. Yosys uses it as an adder and leaves the LUTs that choose
the operands outside. Where the carry of a chain begins with a constant, nextpnr puts another ``CCU2C`` before it; it
puts one behind it if the last carry has a net, even if nothing reads that. See Yosys's ``lattice/ccu2c_sim.vh`` for the
function.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import chain, permutations, product

from .absorb_registers import net_readers

__all__ = ["improve_carries"]

PINS = "ABCD"


def improve_carries(netlist):
    """Moves LUTs into the carry chains that they lead to, and takes constants away from where carries begin.

    Parameters
    ----------
    netlist : dict
        Yosys's JSON after ``synth_ecp5``; changed.

    Returns
    -------
    Counter
        LUTs that the chains took (``absorbed``), and chains that begin by themselves (``begun``).
    """
    counts = Counter()
    for module in netlist["modules"].values():
        # How often each net is read; "x" is none.
        reads = Counter({net: len(places) for net, places in net_readers(module).items() if net != "x"})
        for cell in module["cells"].values():
            if cell["type"] == "CCU2C" and not reads[cell["connections"]["COUT"][0]]:
                _disconnect(cell, "COUT")
        luts = {cell["connections"]["Z"][0]: (name, cell) for name, cell in module["cells"].items()
                if cell["type"] == "LUT4"}
        for name, cell in [one for one in module["cells"].items() if one[1]["type"] == "CCU2C"]:
            # A chain that begins by itself has a LUT for its first sum, if that is read; a first half that takes a LUT
            # saves as much, and is faster.
            if not reads[cell["connections"]["S0"][0]]:
                counts["begun"] += _begin(module, name, cell, reads)
            taken = [_absorb(cell, number, luts, reads) for number in range(2)]
            if not taken[0]:
                counts["begun"] += _begin(module, name, cell, reads)
            for lut in chain.from_iterable(taken):
                del module["cells"][lut]
                counts["absorbed"] += 1
    return counts


@dataclass
class Table:
    """A LUT.

    Attributes
    ----------
    pins : list
        What is at each pin: the number of a net, or a constant, "0" or "1".
    init : int
        Contents: bit ``n`` is the output if the pins, the first being the lowest bit, have the value ``n``.
    """

    pins: list
    init: int

    @property
    def nets(self):
        """Bits at the pins without the constants."""
        return list(dict.fromkeys(pin for pin in self.pins if isinstance(pin, int)))

    def at(self, values):
        """The output for ``values``: a bit, 0 or 1, for each net at the pins."""
        index = sum(values.get(pin, pin == "1") << place for place, pin in enumerate(self.pins))
        return self.init >> index & 1


def _half(cell, number):
    """The two tables of half a ``CCU2C``: whether the carry passes (LUT4), and the carry out if not (LUT2)."""
    pins = [cell["connections"][f"{pin}{number}"][0] for pin in PINS]
    init = int(cell["parameters"][f"INIT{number}"], 2)
    return Table(pins, init), Table(pins[:2], init & 0xF)


def _carries(cell, number):
    """Whether the carry out of a half leads anywhere."""
    return number == 0 or cell["connections"]["COUT"] != ["x"]


def _fit(nets, passes, carries):
    """A LUT for half a ``CCU2C``.

    Parameters
    ----------
    nets : list of int
        Four at most.
    passes : dict
        Maps values of the nets to 1 where the carry passes.
    carries : dict or None
        Maps values of the nets to the carry out where the carry does not pass; None if it does not matter.

    Returns
    -------
    Table or None
    """
    free = len(nets) < len(PINS)
    for order in permutations(range(len(nets))):
        # With the last pin (D) tied to 1 the LUT2 no longer shares table bits with the LUT4.
        pins = [nets[place] for place in order] + (["0"] * (len(PINS) - 1 - len(nets)) + ["1"] if free else [])
        init, wanted = 0, {}
        for values, pass_bit in passes.items():
            index = sum((values[order[place]] if place < len(order) else pin == "1") << place
                        for place, pin in enumerate(pins))
            init |= pass_bit << index
            if carries is not None and not pass_bit:
                wanted.setdefault(index & 3, set()).add(carries[values])
        if free:
            init |= sum(1 << index for index, bits in wanted.items() if 1 in bits)
        if all(bits == {init >> index & 1} for index, bits in wanted.items()):
            return Table(pins, init)
    return None


def _absorb(cell, number, luts, reads):
    """Moves LUTs into half a ``CCU2C`` that alone reads them; returns their names."""
    names = []
    while lut := _absorb_one(cell, number, luts, reads):
        names.append(lut)
    return names


def _absorb_one(cell, number, luts, reads):
    passes, carries = _half(cell, number)
    for net in passes.nets:
        if net not in luts or reads[net] != passes.pins.count(net):
            continue
        name, lut = luts[net]
        inner = Table([lut["connections"][pin][0] for pin in PINS], int(lut["parameters"]["INIT"], 2))
        nets = list(dict.fromkeys([one for one in passes.nets if one != net] + inner.nets))
        if len(nets) > len(PINS):
            continue
        every = [dict(zip(nets, values, strict=True)) for values in product((0, 1), repeat=len(nets))]
        tables = [{tuple(values.values()): table.at(values | {net: inner.at(values)}) for values in every}
                  for table in (passes, carries)]
        whole = _fit(nets, tables[0], tables[1] if _carries(cell, number) else None)
        if whole is not None:
            reads.subtract(inner.pins)
            _set_half(cell, number, whole, reads)
            return name
    return None


def _set_half(cell, number, table, reads):
    for pin, net in zip(PINS, table.pins, strict=True):
        bits = cell["connections"][f"{pin}{number}"]
        reads.subtract(bits)
        bits[:] = [net]
        reads.update(bits)
    cell["parameters"][f"INIT{number}"] = f"{table.init:016b}"


def _begin(module, name, cell, reads):
    """Lets a chain's first half generate its carry from two nets instead of a constant; a LUT computes its sum."""
    carry = cell["connections"]["CIN"][0]
    if carry not in ("0", "1"):
        return False
    passes, carries = _half(cell, 0)
    nets, constant = passes.nets, int(carry)
    table = {values: constant if passes.at(given) else carries.at(given)
             for values in product((0, 1), repeat=len(nets)) for given in [dict(zip(nets, values, strict=True))]}
    first = _fit(nets, dict.fromkeys(table, 0), table)
    if first is None:
        return False
    total = cell["connections"]["S0"][0]
    if reads[total]:
        connections = {pin: [net] for pin, net in zip(PINS, passes.pins, strict=True)}
        reads.update(passes.pins)
        init = passes.init ^ (0xFFFF if constant else 0)
        module["cells"][_unused(module, f"{name}_S0_LUT4")] = {
            "hide_name": 0, "type": "LUT4", "parameters": {"INIT": f"{init:016b}"}, "attributes": {},
            "port_directions": {**dict.fromkeys(PINS, "input"), "Z": "output"},
            "connections": {**connections, "Z": [total]}}
    _disconnect(cell, "S0")
    _disconnect(cell, "CIN")
    _set_half(cell, 0, first, reads)
    return True


def _unused(module, name):
    """The name, longer if need be: no two of a module's cells and nets share one, or Yosys does not read it."""
    while name in module["cells"] or name in module["netnames"]:
        name += "_"
    return name


def _disconnect(cell, port):
    cell["connections"][port] = ["x"]
