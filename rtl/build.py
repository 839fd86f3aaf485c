# SPDX-License-Identifier: Apache-2.0
"""Builds bitstreams and Verilog: ``python -m rtl.build --board ulx3s-85f``."""

if __name__ == "__main__":
    from host.errors import expect_interrupts
    expect_interrupts()

import argparse
import json
import os
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

from amaranth.back import verilog

from host.errors import UserError, check_all, end_with
from host.files import check_file, check_files, write_whole
from host.options import check_range, read_engine

from .axi import AxiEngine
from .boards import board_names, board_platform, read_board
from .engine import Engine
from .tools import FAMILIES, find_tools, fmax_mhz, run_steps, tool_versions, utilisation
from .top import Top
from .units import PARTS, UNITS, build_unit

__all__ = ["build_bitstream", "main"]

OUTPUTS = ("top.tim", "top.rpt", "report.json")

EXAMPLES = """examples:
  python -m rtl.build --board ulx3s-85f
  python -m rtl.build --board ulx3s-85f --preset tiny --seed 3 -o build/tiny
  python -m rtl.build --board icebreaker --seeds 3
  python -m rtl.build --board ulx3s-85f --preset conv --clock 50
  python -m rtl.build --unit walker --part lfe5u-85f
  python -m rtl.build --verilog --preset wide -o engine.v
  python -m rtl.build --verilog --top axi"""

TOPS = {"engine": Engine, "axi": AxiEngine}
"""What --verilog writes, by the name of its file; its module is called nonzero_ and that name."""


def _plan(board, family, config):
    """The tools' input files and the script that calls them."""
    platform = board_platform(board)
    try:
        top = Top(config, board["family"], board["oscillator_mhz"], board["clock_mhz"], board["baud"])
        return platform.build(
            top, name="top", do_build=False, synth_opts=board["synth_opts"], script_after_read=family.prepare,
            nextpnr_opts=f"{board['nextpnr_opts']} --freq {board['clock_mhz']} --seed $SEED --report pnr.json")
    except ValueError as error:
        raise UserError(f"the board's {error}") from None


def _place(script, place, tools, family, seeds):
    """Places and routes with each seed; leaves the files of the fastest. Returns the highest clock by seed, in MHz."""
    files = ("pnr.json", "top.tim", family.routed)
    found = {}
    for seed in seeds:
        run_steps(script, place, tools, SEED=str(seed))
        fmax = fmax_mhz(json.loads((place / "pnr.json").read_text()))
        if fmax > max(found.values(), default=-1):
            for file in files:
                os.replace(place / file, place / f"best-{file}")
        found[seed] = fmax
    for file in files:
        os.replace(place / f"best-{file}", place / file)
    return found


def build_bitstream(name, config, seeds, directory, command, clock_mhz=None):
    """Synthesises, places, routes and packs.

    Parameters
    ----------
    name : str
        Board, a file in ``constraints``.
    config : EngineConfig
    seeds : sequence of int
        Of placement; the fastest becomes the bitstream.
    directory : Path
        For the bitstream, the tools' logs and ``report.json``; nothing there changes if a tool fails.
    command : str
        For the report.
    clock_mhz : float, optional
        Instead of the board's.

    Returns
    -------
    report : dict
        What ``report.json`` says.
    bitstream : Path
    """
    board = read_board(name)
    if clock_mhz is not None:
        board["clock_mhz"] = clock_mhz
    family = FAMILIES[board["family"]]
    outputs = (family.bitstream, *OUTPUTS)
    check_files(directory, outputs)
    tools = find_tools(family)
    plan = _plan(board, family, config)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix="unfinished-") as unfinished:
        place = Path(plan.extract(unfinished))
        script = (place / f"{plan.script}.sh").read_text()
        synthesis, placement, packing = ({variable: tool} for variable, tool in tools.items())
        run_steps(script, place, synthesis)
        fmax = _place(script, place, placement, family, seeds)
        run_steps(script, place, packing)
        pnr = json.loads((place / "pnr.json").read_text())
        netlist = json.loads((place / "top.json").read_text()) if family.netlist_cells else None
        report = {
            "command": command, "board": name, "part": board["part"], "pes": config.pes,
            "config_hash": config.hash.hex(), "clock_target_mhz": board["clock_mhz"],
            "seed": max(fmax, key=fmax.get), **utilisation(pnr, family, config.pes, netlist),
            "fmax_mhz_median": round(statistics.median(fmax.values()), 2), "fmax_mhz_by_seed": fmax,
            "bitstream_bytes": (place / family.bitstream).stat().st_size, "tools": tool_versions(family),
        }
        (place / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        for file in outputs:
            os.replace(place / file, directory / file)
    return report, directory / family.bitstream


def _write_verilog(top, config, output):
    check_file(output)
    text = verilog.convert(TOPS[top](config), name=f"nonzero_{top}", emit_src=False, strip_internal_attrs=True)
    write_whole(output, text.encode())


def _parser():
    parser = argparse.ArgumentParser(prog="python -m rtl.build", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--board", help=f"bitstream for a board: {', '.join(board_names())}")
    what.add_argument("--unit", choices=UNITS, help="place one unit alone and show its critical path: a minute or so")
    what.add_argument("--verilog", action="store_true", help="plain Verilog of the engine, for any other flow")
    parser.add_argument("--top", choices=TOPS, default="engine", help="of --verilog: the engine with its byte link, or "
                        "behind AXI4-Stream and AXI4-Lite (engine)")
    parser.add_argument("--preset", help="engine: tiny, up5k, default or wide (the board's)")
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="engine configuration")
    parser.add_argument("--clock", type=float, metavar="MHZ", help="the engine's clock, for --board (the board's)")
    parser.add_argument("--part", choices=PARTS, default="lfe5u-85f", help="FPGA for --unit (lfe5u-85f)")
    parser.add_argument("--seed", type=int, default=1, help="of placement (1)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N",
                        help="with --board, place N times, with --seed and those after it; keep the fastest (1)")
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
    board = read_board(arguments.board) if arguments.board is not None else {"preset": "default"}
    name = board["preset"] if arguments.preset is None else arguments.preset
    config, *_ = check_all(lambda: read_engine(name, arguments.config),
                          lambda: check_range("--seed", arguments.seed, 0, (1 << 31) - 1),
                          lambda: check_range("--seeds", arguments.seeds, 1, 100),
                          lambda: check_range("--clock", 1 if arguments.clock is None else arguments.clock, 1, 1000))
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
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    report, bitstream = build_bitstream(arguments.board, config, seeds, directory, command,
                                        arguments.clock)
    _print_report(report)
    sys.stdout.write(f"{bitstream}\n")
    if report["fmax_mhz"] < report["clock_target_mhz"]:
        sys.stderr.write(f"warning: the routed design reaches {report['fmax_mhz']} MHz only, not the "
                         f"{report['clock_target_mhz']} MHz that its clock runs at; do not use this bitstream, "
                         "try another --seed or a lower --clock\n")


if __name__ == "__main__":
    end_with(main)
