# SPDX-License-Identifier: Apache-2.0
"""Moves output registers into the ECP5 block RAMs and multipliers that they follow, which Yosys does not.

A register outside a block RAM gets its word 5 ns after the clock, plus the delay of the wires; the block RAM's own
register takes it at once, so that the logic behind it has nearly the whole period. See "Memory Usage Guide for ECP5"
and "ECP5 sysDSP Usage Guide" (Lattice TN-02204, TN-02205).
"""

import re
from collections import defaultdict

__all__ = ["absorb_registers", "net_readers"]

ZERO, ONE = "0", "1"

WIDE = 36
"""Bits of a word that takes both ports of a block RAM."""


def absorb_registers(netlist):
    """Moves registers into the block RAMs and multipliers whose outputs lead to nothing else.

    Parameters
    ----------
    netlist : dict
        Yosys's JSON after ``synth_ecp5``; changed.

    Returns
    -------
    dict
        Blocks that took their registers by type of cell, and flip-flops (``TRELLIS_FF``) that are gone.
    """
    counts = defaultdict(int)
    for module in netlist["modules"].values():
        readers, gone = net_readers(module), set()
        for cell in module["cells"].values():
            if cell["type"] not in ABSORB:
                continue
            taken = []
            for pattern in _words(cell):
                outputs = {port: bits[0] for port, bits in cell["connections"].items()
                           if re.fullmatch(pattern, port) and bits and readers.get(bits[0])}
                registers = _registers(readers, outputs.values())
                if not registers or not ABSORB[cell["type"]](cell, outputs, registers):
                    continue
                for port, register in zip(outputs, registers, strict=True):
                    cell["connections"][port] = register["connections"]["Q"]
                taken += registers
            if taken:
                gone |= {id(register) for register in taken}
                counts[cell["type"]] += 1
                counts["TRELLIS_FF"] += len(taken)
        module["cells"] = {name: cell for name, cell in module["cells"].items() if id(cell) not in gone}
    return dict(counts)


def _words(cell):
    """Patterns of the outputs that are a word: of a block RAM each port's, or with 36 bits those of both."""
    if cell["type"] != "DP16KD":
        return (r"P\d+",)
    return (r"DO[AB]\d+",) if int(cell["parameters"]["DATA_WIDTH_A"], 2) == WIDE else (r"DOA\d+", r"DOB\d+")


def net_readers(module):
    """Who reads each net of ``module``: cells and ports as ``(cell, port)``; a port of the module is ``(None, port)``.
    """
    readers = defaultdict(list)
    for cell in module["cells"].values():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] != "output":
                for bit in bits:
                    readers[bit].append((cell, port))
    for port, members in module["ports"].items():
        for bit in members["bits"]:
            readers[bit].append((None, port))
    return readers


def _registers(readers, nets):
    """The registers that alone read the nets; None if there are others, or they differ in clock, enable or reset."""
    registers, controls = [], set()
    for net in nets:
        (cell, port), *others = readers[net]
        if others or cell is None or cell["type"] != "TRELLIS_FF" or port != "DI" or not _is_plain(cell):
            return None
        registers.append(cell)
        controls.add(_controls(cell))
    return registers if len(controls) == 1 else None


def _is_plain(register):
    """It begins at zero, and has neither a reset nor inverted inputs."""
    parameters = register["parameters"]
    return (parameters["CLKMUX"] == "CLK" and _always_on(register) | (parameters["CEMUX"] == "CE")
            and parameters["REGSET"] == "RESET" and register["connections"].get("LSR", [ZERO]) == [ZERO]
            and not register["attributes"].get("keep"))


def _always_on(register):
    # Yosys sets a space behind a text that looks like a number.
    return register["parameters"]["CEMUX"].strip() == "1"


def _controls(register):
    """Nets of clock and enable."""
    connections = register["connections"]
    return connections["CLK"][0], ONE if _always_on(register) else connections["CE"][0]


def _absorb_in_ram(ram, outputs, registers):
    """Whether a block RAM takes the registers behind its read port."""
    clock, enable = _controls(registers[0])
    sides = {port[2] for port in outputs}
    if any(ram["connections"][f"CLK{side}"] != [clock] for side in sides):
        return False
    for side in sides:
        ram["parameters"][f"REGMODE_{side}"] = "OUTREG"
        _connect(ram, f"OCE{side}", [enable])
    return True


def _absorb_in_multiplier(multiplier, outputs, registers):
    """Whether a multiplier takes the registers behind its product."""
    clock, enable = _controls(registers[0])
    multiplier["parameters"] |= {"REG_OUTPUT_CLK": "CLK0", "REG_OUTPUT_CE": "CE0", "REG_OUTPUT_RST": "RST0"}
    for port, bit in (("CLK0", clock), ("CE0", enable), ("RST0", ZERO)):
        _connect(multiplier, port, [bit])
    return True


def _connect(cell, port, bits):
    cell["connections"][port] = bits
    cell["port_directions"][port] = "input"


ABSORB = {"DP16KD": _absorb_in_ram, "MULT18X18D": _absorb_in_multiplier}
