# SPDX-License-Identifier: Apache-2.0
"""From a board's file to its bitstream: synthesis, placement, routing, and the boot image in it."""

import hashlib
import inspect
import json
import os
import random
import re
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from nonzero.caches import wasm_cache
from nonzero.errors import UserError
from nonzero.files import check_files, write_whole
from rtl.integration.board_top import Top
from rtl.integration.boards import board_platform

from .export import start_processes
from .tools import FAMILIES, find_tools, fmax_mhz, run_steps, run_tool, tool_versions, utilisation

__all__ = ["build_bitstream", "placeholder", "write_project"]

LOGS = ("top.tim", "top.rpt", "report.json")


BLANKS = str.maketrans("", "", " \n")


def boot_content(board, packets):
    """Contents of the bitstream's boot memory: the packets, then bytes that the engine ignores.

    Parameters
    ----------
    board : dict
        Fields of the board; ``boot_kib`` is the size of the memory in KiB.
    packets : bytes
        LOAD packets of an image, one after the other.

    Raises
    ------
    UserError
        If there is no room.
    """
    room = int(board["boot_kib"] * 1024)
    if len(packets) > room:
        raise UserError(
            f"the image needs {len(packets) / 1024:.1f} KiB of block RAM to boot from, the bitstream has "
            f"{room / 1024:.1f} for that; give it more with --boot-kib {-(-len(packets) // 1024)}, if the FPGA has "
            "as much to spare")
    return packets.ljust(room, b"\0")


def placeholder(room):
    """Random contents of a boot memory of ``room`` bytes, so that the patch tool can locate every block of it."""
    return random.Random(0).randbytes(room)


def _plan(board, config, boot):
    """The tools' input files and the script that calls them."""
    platform = board_platform(board)
    family = FAMILIES.get(board["family"])
    options = {}
    if family is not None:
        options = {
            "synth_opts": board["synth_opts"], "script_after_read": family.prepare,
            "script_after_synth": family.finish,
            "nextpnr_opts": f"{board['nextpnr_opts']} --freq {board['clock_mhz']} --seed $SEED --report pnr.json"}
    top = Top(config, board["family"], board["oscillator_mhz"], board["clock_mhz"], board["baud"], board["leds"], boot)
    try:
        with wasm_cache():
            return platform.build(top, name="top", do_build=False, **options)
    except ValueError as error:
        raise UserError(f"the board's {error}") from None


def _fingerprint(plan, family, seeds):
    """A hash of all that decides placement and routing; equal wherever the sources lie."""
    between = [inspect.getsource(inspect.getmodule(step)) for step in (*family.improvements, family.floorplan)
               if step]
    digest = hashlib.sha256(json.dumps([tool_versions(family), list(seeds), between]).encode())
    for name, content in sorted(plan.files.items()):
        text = content if isinstance(content, str) else content.decode()
        digest.update(f"{name}\n".encode() + re.sub(r"^\s*attribute \\src .*\n", "", text, flags=re.MULTILINE).encode())
    return digest.hexdigest()


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


def _script(plan, place, family):
    return family.rewrite((place / f"{plan.script}.sh").read_text())


def _route(plan, place, tools, board, seeds, pes):
    """Synthesis, placement and routing for a board. Returns the report's figures."""
    begin, family = time.monotonic(), FAMILIES[board["family"]]
    script = _script(plan, place, family)
    synthesis, placement, _ = ({variable: tool} for variable, tool in tools.items())
    run_steps(script, place, synthesis)
    family.improve_netlist(place / "top.json", board["part"])
    fmax = _place(script, place, placement, family, seeds)
    netlist = json.loads((place / "top.json").read_text()) if family.netlist_cells else None
    pnr = json.loads((place / "pnr.json").read_text())
    return {"seed": max(fmax, key=fmax.get), **utilisation(pnr, family, pes, netlist),
            "fmax_mhz_median": round(statistics.median(fmax.values()), 2), "fmax_mhz_by_seed": fmax,
            "seconds": round(time.monotonic() - begin)}


def _routed_before(directory, fingerprint, family):
    """The report of the last build there, if it routed the same design; else None."""
    with suppress(OSError, ValueError):
        report = json.loads((directory / "report.json").read_text())
        if report["design"] == fingerprint and all((directory / file).is_file() for file in (family.routed, *LOGS)):
            return report
    return None


def _count_ones(content):
    return int.from_bytes(content, "little").bit_count()


def _ones(path):
    """Bits that are set in all block RAMs of a routed design."""
    blocks = re.findall(r"^\.bram_init \d+\n((?:[0-9a-f ]+\n)*)", path.read_text(), re.MULTILINE)
    return sum(int(block.translate(BLANKS) or "0", 16).bit_count() for block in blocks)


def _patch(place, family, old, new):
    """Gives the routed design other contents of its boot memory."""
    for name, content in (("old.hex", old), ("new.hex", new)):
        (place / name).write_text("".join(f"{byte:02x}\n" for byte in content))
    patched = place / f"patched-{family.routed}"
    run_tool(family.patch, place, "-i", family.routed, "-o", patched.name, "-f", "old.hex", "-t", "new.hex",
             way_out=f"pip install {' '.join(family.packages)}")
    # The program does not say whether it found the old contents.
    if _ones(patched) - _ones(place / family.routed) != _count_ones(new) - _count_ones(old):
        raise UserError(f"the boot memory was not found in {family.routed}; delete the bitstream's directory and build "
                        "it again")
    os.replace(patched, place / family.routed)


def build_bitstream(board, config, seeds, directory, command, packets=b""):
    """Synthesises, places, routes and packs. A design that was routed before is not routed again.

    Parameters
    ----------
    board : dict
        Result of `rtl.integration.boards.read_board`.
    config : EngineConfig
    seeds : sequence of int
        Seeds of placement; the fastest result becomes the bitstream.
    directory : Path
        For the bitstream, the routed design, the tools' logs and ``report.json``; nothing there changes if a tool
        fails.
    command : str
        For the report.
    packets : bytes
        Packets that the board sends its engine at power-up, at most ``boot_kib`` of it.

    Returns
    -------
    report : dict
        The contents of ``report.json``.
    bitstream : Path

    Raises
    ------
    UserError
        If a tool is missing or fails, or there is no room for the packets.
    """
    family = FAMILIES[board["family"]]
    outputs = (family.bitstream, family.routed, *LOGS)
    check_files(directory, outputs)
    content = boot_content(board, packets)
    tools = find_tools(family)
    # A patch fills the boot memory afterwards; without one its contents are part of what is placed.
    boot = placeholder(len(content)) if family.patch else content
    plan = _plan(board, config, boot)
    fingerprint = _fingerprint(plan, family, seeds)
    before = _routed_before(directory, fingerprint, family)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix="unfinished-") as unfinished:
        place = Path(plan.extract(unfinished))
        if before is None:
            figures = _route(plan, place, tools, board, seeds, config.pes)
        else:
            figures = before
            for file in (family.routed, *LOGS):
                (place / file).write_bytes((directory / file).read_bytes())
        routed = (place / family.routed).read_bytes()
        if content and family.patch:
            _patch(place, family, boot, content)
        _, _, (pack, packer) = tools.items()
        run_steps(_script(plan, place, family), place, {pack: packer})
        # The unpatched design is kept, so that it can be patched again.
        (place / family.routed).write_bytes(routed)
        now = {"command": command, "board": board["name"], "part": board["part"], "pes": config.pes,
               "config_hash": config.hash.hex(), "clock_target_mhz": board["clock_mhz"]}
        report = {**now, **figures, **now, "boot_kib": len(content) / 1024, "boot_bytes": len(packets),
                  "bitstream_bytes": (place / family.bitstream).stat().st_size, "tools": tool_versions(family),
                  "design": fingerprint}
        (place / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        for file in outputs:
            os.replace(place / file, directory / file)
    return report, directory / family.bitstream


def write_project(board, config, directory, packets=b""):
    """Writes all that Vivado needs to make the bitstream: Verilog, constraints, and ``top.tcl`` that calls it.

    Parameters
    ----------
    board, config, packets
        See `build_bitstream`.
    directory : Path

    Returns
    -------
    list of Path
    """
    plan = _plan(board, config, boot_content(board, packets))
    check_files(directory, plan.files)
    for name, content in plan.files.items():
        if name.endswith(".v"):
            content = start_processes(content)
        write_whole(directory / name, content if isinstance(content, bytes) else content.encode())
    return [directory / name for name in plan.files]
