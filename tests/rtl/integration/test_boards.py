# SPDX-License-Identifier: Apache-2.0
"""The boards' files, and the baselines that were measured on the boards' FPGAs."""

import json

import pytest

from rtl.config import PRESETS
from rtl.integration.boards import CONSTRAINTS, board_names, read_board
from rtl.integration.clock import ecp5_dividers, gowin_dividers, ice40_dividers, xilinx_dividers


@pytest.mark.parametrize("name", board_names())
def test_a_boards_file_is_complete(name):
    board = read_board(name)
    assert {"platform", "family", "part", "preset", "oscillator_mhz", "clock_mhz", "baud", "boot_kib"} <= set(board)
    assert set(board["leds"]) == {"loaded", "busy", "error"}
    dividers = {"ecp5": ecp5_dividers, "ice40": ice40_dividers, "gowin": gowin_dividers, "xilinx7": xilinx_dividers}
    dividers[board["family"]](board["oscillator_mhz"], board["clock_mhz"])
    # Within 2 % of the baud rate, as RS-232 wants it of both ends together.
    divisor = round(board["clock_mhz"] * 1e6 / board["baud"])
    assert abs(board["clock_mhz"] * 1e6 / divisor / board["baud"] - 1) < 0.02


def test_committed_baselines_name_their_command():
    paths = list(CONSTRAINTS.glob("baseline_*.json"))
    assert len(paths) >= 5
    for path in paths:
        baseline = json.loads(path.read_text())
        assert baseline["command"].startswith("python -m rtl.build") and "/" not in baseline["command"]
        assert baseline["fmax_mhz"] == max(baseline["fmax_mhz_by_seed"].values()) >= baseline["clock_target_mhz"]
        assert min(baseline["fmax_mhz_by_seed"].values()) <= baseline["fmax_mhz_median"] <= baseline["fmax_mhz"]
        assert baseline["tools"]


def test_the_table_of_boards_tells_the_baselines():
    lines = (CONSTRAINTS.parent / "docs" / "results.md").read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("| board | FPGA |"))
    shown = {line for line in lines[begin + 2:] if line.startswith("| `")}
    expected = set()
    for path in CONSTRAINTS.glob("baseline_*.json"):
        found = json.loads(path.read_text())
        preset = next(name for name, config in PRESETS.items() if config.hash.hex() == found["config_hash"])
        memories = f"{found['ram_blocks']}" + (f" and {found['large_rams']} large" if "large_rams" in found else "")
        expected.add(f"| `{found['board']}` | {found['part']} | `{preset}`, {found['pes']} PEs | "
                     f"{found['clock_target_mhz']:g} | {found['fmax_mhz']:g} | {found['luts']:,} | {memories} | "
                     f"{found['dsps']} | {found['bitstream_bytes'] / 1024:.0f} | {found['seconds'] / 60:.0f} |")
    assert len(expected) >= 5 and {line for line in shown if line.split("`")[1] in board_names()} == expected
