# SPDX-License-Identifier: Apache-2.0
"""Builds bitstreams and Verilog: ``python -m rtl.build --board ulx3s-85f``."""

if __name__ == "__main__":
    from nonzero.errors import expect_interrupts
    expect_interrupts()

import shlex
import sys
from pathlib import Path

from nonzero.caches import wasm_cache
from nonzero.command_line import CommandParser
from nonzero.errors import UserError, check_all, check_range, end_with
from nonzero.files import check_file, write_whole
from nonzero.shipped import given_or_shipped
from rtl.config import PRESETS
from rtl.config_file import read_engine
from rtl.engine.engine import Engine
from rtl.image_file import read_parts
from rtl.integration.axi_top import AxiEngine
from rtl.integration.boards import board_names, read_board
from rtl.protocol import load_packets

from .bitstream import build_bitstream, write_project
from .export import as_verilog
from .single_unit import PARTS, UNITS, build_unit
from .tools import FAMILIES, find_tool, run_tool

__all__ = ["main", "write_verilog"]

EXAMPLES = """examples:
  python -m rtl.build --board ulx3s-85f
  python -m rtl.build --board ulx3s-85f --preset tiny --seed 3 -o build/tiny
  python -m rtl.build --board icebreaker --seeds 3
  python -m rtl.build --board ulx3s-85f --preset conv --clock 60 --boot-kib 0 --seed 2
  python -m rtl.build --board ulx3s-85f --bake build/demo/model.img --program
  python -m rtl.build --board arty-a7
  python -m rtl.build --unit walker --part lfe5u-85f
  python -m rtl.build --verilog --preset wide -o engine.v
  python -m rtl.build --verilog --top axi"""

PROGRAMMER = "see the package manager of your system for openfpgaloader, or load the bitstream with another tool"

TOPS = {"engine": Engine, "axi": AxiEngine}
"""Designs that --verilog writes, by the name of the file; the module is called nonzero_ and that name."""


def write_verilog(top, config, output):
    """Writes the Verilog of an engine, or of an engine behind its AXI ports.

    Parameters
    ----------
    top : str
        A key of `TOPS`.
    config : EngineConfig
    output : Path

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    check_file(output)
    with wasm_cache():
        write_whole(output, as_verilog(TOPS[top](config), f"nonzero_{top}").encode())


def _parser():
    parser = CommandParser("python -m rtl.build", description=__doc__, epilog=EXAMPLES)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--board", help=f"bitstream for a board: {', '.join(board_names())}")
    what.add_argument("--unit", choices=UNITS, help="place one unit alone and show its critical path: a minute or so")
    what.add_argument("--verilog", action="store_true", help="plain Verilog of the engine, for any other flow")
    parser.add_argument("--top", choices=TOPS, default="engine", help="of --verilog: the engine with its byte link, or "
                        "behind AXI4-Stream and AXI4-Lite (engine)")
    parser.add_argument("--preset", help=f"engine: {', '.join(PRESETS)} (the board's)")
    parser.add_argument("--config", type=given_or_shipped, metavar="FILE.toml", help="engine configuration")
    parser.add_argument("--clock", type=float, metavar="MHZ", help="the engine's clock, for --board (the board's)")
    parser.add_argument("--bake", type=Path, metavar="IMAGE", help="with --board: the board loads this image by itself "
                        "at power-up")
    parser.add_argument("--boot-kib", type=int, metavar="KIB", help="block RAM that the bitstream keeps for such an "
                        "image (the board's)")
    parser.add_argument("--program", action="store_true", help="with --board: then loads the bitstream into the board")
    parser.add_argument("--part", choices=PARTS, default="lfe5u-85f", help="FPGA for --unit (lfe5u-85f)")
    parser.add_argument("--seed", type=int, help="of placement (the board's, or 1)")
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


def _check_board_options(arguments):
    options = {"--bake": arguments.bake, "--boot-kib": arguments.boot_kib, "--program": arguments.program or None,
               "--clock": arguments.clock}
    given = [option for option, value in options.items() if value is not None]
    if arguments.board is None and given:
        raise UserError(f"{', '.join(given)} need --board")


def _read_board(arguments):
    """The board's file, as the options change it."""
    board = read_board(arguments.board)
    for key, value in (("clock_mhz", arguments.clock), ("boot_kib", arguments.boot_kib)):
        if value is not None:
            board[key] = value
    return board


def _build_board(arguments, board, config, command):
    vivado = board["family"] not in FAMILIES
    if arguments.program:
        if vivado:
            raise UserError(f"--program cannot load board '{arguments.board}', whose bitstream is made by Vivado")
        find_tool("openFPGALoader", PROGRAMMER)
    packets = b""
    if arguments.bake is not None:
        packets = b"".join(load_packets(read_parts(arguments.bake, config).engine, config.packet_bytes))
    directory = arguments.output or Path("build/boards") / arguments.board
    if vivado:
        write_project(board, config, directory, packets)
        sys.stdout.write(f"{directory / 'top.tcl'}\nin that directory: vivado -mode batch -source top.tcl\n")
        return
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    report, bitstream = build_bitstream(board, config, seeds, directory, command, packets)
    _print_report(report)
    sys.stdout.write(f"{bitstream}\n")
    if report["fmax_mhz"] < report["clock_target_mhz"]:
        slow = (f"the routed design reaches {report['fmax_mhz']} MHz only, not the {report['clock_target_mhz']} MHz "
                "that its clock runs at; do not use this bitstream, try another --seed or a lower --clock")
        if arguments.program:
            raise UserError(slow)
        sys.stderr.write(f"warning: {slow}\n")
    elif arguments.program:
        sys.stderr.write("loading the bitstream into the board\n")
        run_tool("openFPGALoader", directory, "-b", board["programmer"], bitstream.name, way_out=PROGRAMMER)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    board = _read_board(arguments) if arguments.board is not None else {"preset": "default", "boot_kib": 0}
    name = board["preset"] if arguments.preset is None else arguments.preset
    if arguments.seed is None:
        arguments.seed = board.get("seed", 1)
    config, *_ = check_all(lambda: read_engine(name, arguments.config),
                          lambda: check_range("--seed", arguments.seed, 0, (1 << 31) - 1),
                          lambda: check_range("--seeds", arguments.seeds, 1, 100),
                          lambda: check_range("--clock", 1 if arguments.clock is None else arguments.clock, 1, 1000),
                          lambda: check_range("--boot-kib", board["boot_kib"], 0, 1024),
                          lambda: _check_board_options(arguments))
    command = shlex.join(["python", "-m", "rtl.build", *argv])
    if arguments.verilog:
        output = arguments.output or Path(f"build/{arguments.top}.v")
        write_verilog(arguments.top, config, output)
        sys.stdout.write(f"{output}\n")
    elif arguments.unit:
        directory = arguments.output or Path("build/units") / arguments.unit
        report = build_unit(arguments.unit, config, arguments.part, arguments.seed, directory, command)
        _print_report(report)
        sys.stdout.write(f"{directory / 'report.json'}\n")
    else:
        _build_board(arguments, board, config, command)


if __name__ == "__main__":
    end_with(main)
