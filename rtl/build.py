# SPDX-License-Identifier: Apache-2.0
"""Builds bitstreams and Verilog: ``python -m rtl.build --board ulx3s-85f``."""

if __name__ == "__main__":
    from host.errors import expect_interrupts
    expect_interrupts()

import argparse
import importlib
import json
import os
import re
import shlex
import sys
import tempfile
import tomllib
from pathlib import Path

from amaranth.back import verilog

from host.errors import UserError, check_all, end_with
from host.files import check_file, check_files, write_whole
from host.options import check_range, read_engine

from .axi import AxiEngine
from .engine import Engine
from .tools import PREPARE, find_tools, run_steps, tool_versions, utilisation
from .top import Top
from .units import PARTS, UNITS, build_unit

__all__ = ["build_bitstream", "main"]

CONSTRAINTS = Path(__file__).parent.parent / "constraints"
OUTPUTS = ("top.bit", "top.tim", "top.rpt", "report.json")

EXAMPLES = """examples:
  python -m rtl.build --board ulx3s-85f
  python -m rtl.build --board ulx3s-85f --preset tiny --seed 3 -o build/tiny
  python -m rtl.build --unit walker --part lfe5u-85f
  python -m rtl.build --verilog --preset wide -o engine.v
  python -m rtl.build --verilog --top axi"""

TOPS = {"engine": Engine, "axi": AxiEngine}
"""What --verilog writes, by the name of its file; its module is called nonzero_ and that name."""


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
            top, name="top", do_build=False, synth_opts=board["synth_opts"], script_after_read=PREPARE,
            nextpnr_opts=f"{board['nextpnr_opts']} --freq {board['clock_mhz']} --seed {seed} --report pnr.json")
    except ValueError as error:
        raise UserError(f"the board's {error}") from None


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
    check_files(directory, OUTPUTS)
    board = _read_board(name)
    tools = find_tools()
    plan = _plan(board, config, seed)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix="unfinished-") as unfinished:
        place = Path(plan.extract(unfinished))
        run_steps((place / f"{plan.script}.sh").read_text(), place, tools)
        pnr = json.loads((place / "pnr.json").read_text())
        report = {
            "command": command, "board": name, "part": board["part"], "pes": config.pes,
            "config_hash": config.hash.hex(), "clock_target_mhz": board["clock_mhz"], "seed": seed,
            **utilisation(pnr, config.pes),
            "bitstream_bytes": (place / "top.bit").stat().st_size, "tools": tool_versions(),
        }
        (place / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        for file in OUTPUTS:
            os.replace(place / file, directory / file)
    return report


def _write_verilog(top, config, output):
    check_file(output)
    text = verilog.convert(TOPS[top](config), name=f"nonzero_{top}", emit_src=False, strip_internal_attrs=True)
    write_whole(output, text.encode())


def _parser():
    parser = argparse.ArgumentParser(prog="python -m rtl.build", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--board", help=f"bitstream for a board: {', '.join(_boards())}")
    what.add_argument("--unit", choices=UNITS, help="place one unit alone and show its critical path: a minute or so")
    what.add_argument("--verilog", action="store_true", help="plain Verilog of the engine, for any other flow")
    parser.add_argument("--top", choices=TOPS, default="engine", help="of --verilog: the engine with its byte link, or "
                        "behind AXI4-Stream and AXI4-Lite (engine)")
    parser.add_argument("--preset", help="engine: tiny, default or wide (the board's)")
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="engine configuration")
    parser.add_argument("--part", choices=PARTS, default="lfe5u-85f", help="FPGA for --unit (lfe5u-85f)")
    parser.add_argument("--seed", type=int, default=1, help="of placement (1)")
    parser.add_argument("-o", "--output", type=Path, help="directory (build/boards/BOARD, build/units/UNIT) or "
                        "Verilog file (build/TOP.v)")
    return parser


def _print_report(report):
    plain = {key: value for key, value in report.items() if key not in ("tools", "critical_path")}
    width = max(map(len, plain))
    lines = [f"{key:<{width}}  {value}" for key, value in plain.items()]
    if "critical_path" in report:
        lines += ["", "critical path, ns:", *(f"{step['ns']:>6.2f}  {step['type']:<8}  {step['to']}"
                                              for step in report["critical_path"]), ""]
    sys.stdout.write("\n".join([*lines, ""]))


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    board = _read_board(arguments.board) if arguments.board is not None else {"preset": "default"}
    name = board["preset"] if arguments.preset is None else arguments.preset
    config, _ = check_all(lambda: read_engine(name, arguments.config),
                          lambda: check_range("--seed", arguments.seed, 0, (1 << 31) - 1))
    if arguments.verilog:
        output = arguments.output or Path(f"build/{arguments.top}.v")
        _write_verilog(arguments.top, config, output)
        sys.stdout.write(f"{output}\n")
        return
    command = shlex.join(["python", "-m", "rtl.build", *argv])
    if arguments.unit:
        directory = arguments.output or Path("build/units") / arguments.unit
        report = build_unit(arguments.unit, config, arguments.part, arguments.seed, directory, command)
        _print_report(report)
        sys.stdout.write(f"{directory / 'report.json'}\n")
        return
    directory = arguments.output or Path("build/boards") / arguments.board
    report = build_bitstream(arguments.board, config, arguments.seed, directory, command)
    _print_report(report)
    sys.stdout.write(f"{directory / 'top.bit'}\n")
    if report["fmax_mhz"] < report["clock_target_mhz"]:
        sys.stderr.write(f"warning: the routed design reaches {report['fmax_mhz']} MHz only, not the "
                         f"{report['clock_target_mhz']} MHz that its clock runs at; do not use this bitstream, "
                         "try another --seed or a lower clock_mhz in the board's file\n")


if __name__ == "__main__":
    end_with(main)
