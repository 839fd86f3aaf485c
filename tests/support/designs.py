# SPDX-License-Identifier: Apache-2.0
"""Hashes of what rtl emits, as JSON: ``python -m tests.support.designs``. It needs Amaranth only, and no pytest."""

import hashlib
import json
import sys
from dataclasses import replace

from amaranth.back import rtlil
from amaranth.hdl import Module

import rtl.integration.board_top
from rtl.amaranth_private import pass_rtlil_on
from rtl.config import preset
from rtl.engine.engine import Engine
from rtl.integration.axi_top import AxiEngine
from rtl.integration.boards import board_names, board_platform, read_board

PES = {"tiny": 2, "medium": 8, "wide": 4, "conv": 4}
"""Presets that have among them all that an engine can have, and PEs: more of them are copies, and take time."""


class NoEngine(Engine):
    """An engine's ports, with nothing behind them."""

    def elaborate(self, platform):
        return Module()


def smaller(name):
    """A preset with few PEs, and otherwise as it is."""
    config = preset(name)
    cols = min(config.block_cols, PES[name])
    return replace(config, pes=PES[name], slice_word_bits=cols * config.length_bits,
                   pes_per_requantizer=min(config.pes_per_requantizer, PES[name]))


def board_design(name):
    """A board's top level as RTLIL, with a boot memory, around an engine's ports."""
    board = read_board(name)
    top = rtl.integration.board_top.Top(preset("tiny"), board["family"], board["oscillator_mhz"], board["clock_mhz"],
                                        board["baud"], board["leds"], bytes(range(256)))
    files = board_platform(board).prepare(top, "top", emit_src=False).files
    return files.get("top.il") or files["top.v"]


def hashes():
    """SHA-256 of each engine behind its AXI ports, and of each board's top level, by name."""
    # For Vivado Amaranth calls Yosys, a compiled package: what Yosys is given is what matters.
    pass_rtlil_on()
    rtl.integration.board_top.Engine = NoEngine
    designs = {name: rtlil.convert(AxiEngine(smaller(name)), name="top", emit_src=False) for name in PES}
    designs |= {f"board {name}": board_design(name) for name in board_names()}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in designs.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"python": list(sys.version_info[:2]), "hashes": hashes()}))
