# SPDX-License-Identifier: Apache-2.0
"""Places and routes one unit alone, so that its critical path is found in a minute."""

import json
import os
import tempfile
from pathlib import Path

from amaranth.back import rtlil

from nonzero.files import check_files
from rtl.engine.accumulate import Accumulator
from rtl.engine.cluster import Cluster
from rtl.engine.commands import Commands
from rtl.engine.engine import Engine
from rtl.engine.entries import EntryMemory
from rtl.engine.link import Link
from rtl.engine.loader import Loader
from rtl.engine.pe import ProcessingElement, job_queue
from rtl.engine.program import Program
from rtl.engine.requantize import Requantizer
from rtl.engine.scanner import Scanner
from rtl.engine.sequencer import Sequencer
from rtl.engine.slices import SliceLookup
from rtl.engine.variants import variant
from rtl.ports import component_ports

from .tools import FAMILIES, find_tools, run_steps, tool_versions, utilisation

__all__ = ["PARTS", "UNITS", "build_unit"]

UNITS = {
    "engine": Engine, "cluster": Cluster, "pe": ProcessingElement,
    "scanner": Scanner, "slices": lambda config: SliceLookup(config, 1),
    "queue": job_queue,
    "entries": EntryMemory, "walker": lambda config: variant(config).walker(config),
    "accumulator": Accumulator, "requantizer": Requantizer,
    "drain": lambda config: variant(config).drain(config), "program": Program, "sequencer": Sequencer,
    "link": lambda config: Link(config.packet_bytes), "loader": Loader, "commands": Commands,
}
"""The units that can be placed alone, by name."""

PARTS = {"lfe5u-25f": "--25k", "lfe5u-45f": "--45k", "lfe5u-85f": "--85k"}
"""FPGAs of speed grade 6, and how nextpnr calls them."""

OUTPUTS = ("unit.tim", "report.json")

TARGET_MHZ = 100

FAMILY = FAMILIES["ecp5"]

SYNTHESIS = f"read_rtlil unit.il; {FAMILY.prepare}; synth_ecp5 -top unit; {FAMILY.finish}; write_json unit.json\n"

SCRIPT = (
    '"$YOSYS" -q -s unit.ys\n'
    '"$NEXTPNR_ECP5" --quiet {part} --package CABGA381 --speed 6 --json unit.json --freq {mhz} --seed {seed} '
    '--out-of-context --timing-allow-fail --router router2 --log unit.tim --report pnr.json\n')


def _critical_path(report):
    """The longest path between registers: steps with ``type``, ``ns`` and the cell that they lead ``to``."""
    inner = [path for path in report["critical_paths"] if "<async>" not in (path["from"], path["to"])]
    longest = max(inner, key=lambda path: sum(step["delay"] for step in path["path"]), default={"path": []})
    return [{"type": step["type"], "ns": round(step["delay"], 2), "to": step["to"]["cell"]} for step in longest["path"]]


def build_unit(name, config, part, seed, directory, command):
    """Synthesises, places and routes a unit whose ports lead nowhere.

    Parameters
    ----------
    name : str
        One of `UNITS`.
    config : EngineConfig
    part : str
        One of `PARTS`.
    seed : int
        Seed of placement.
    directory : Path
        For ``report.json`` and ``unit.tim``; nothing there changes if a tool fails.
    command : str
        For the report.

    Returns
    -------
    dict
        The contents of ``report.json``: `rtl.build.tools.utilisation` and the critical path between registers.
    """
    check_files(directory, OUTPUTS)
    tools = find_tools(FAMILY)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix="unfinished-") as unfinished:
        place = Path(unfinished)
        unit = UNITS[name](config)
        (place / "unit.il").write_text(rtlil.convert(unit, name="unit", ports=component_ports(unit), emit_src=False))
        (place / "unit.ys").write_text(SYNTHESIS)
        synthesis, placement, _ = ({variable: tool} for variable, tool in tools.items())
        script = SCRIPT.format(part=PARTS[part], mhz=TARGET_MHZ, seed=seed)
        run_steps(script, place, synthesis)
        FAMILY.improve_netlist(place / "unit.json")
        run_steps(script, place, placement)
        pnr = json.loads((place / "pnr.json").read_text())
        report = {
            "command": command, "unit": name, "part": part, "config_hash": config.hash.hex(), "seed": seed,
            **{key: value for key, value in utilisation(pnr, FAMILY, config.pes).items()
               if name == "engine" or not key.endswith("_per_pe")},
            "critical_path": _critical_path(pnr), "tools": tool_versions(FAMILY),
        }
        (place / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        for file in OUTPUTS:
            os.replace(place / file, directory / file)
    return report
