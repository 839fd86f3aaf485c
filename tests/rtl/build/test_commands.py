# SPDX-License-Identifier: Apache-2.0
"""The command that builds: its arguments, Verilog, and a board that is programmed."""

import re
import shlex

import pytest

from nonzero.errors import run_command
from rtl.build.__main__ import main
from rtl.integration.boards import CONSTRAINTS
from tests.support.build_tools import SMALL, build, make_tools, pnr_report, stand_ins


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


def test_a_bitstream_is_loaded_into_the_board(tmp_path, monkeypatch, capsys):
    stand_ins(monkeypatch, tmp_path)
    assert build(tmp_path, "--program") == 0
    assert (tmp_path / "programmed").read_text() == "-b ulx3s top.bit\n"
    (tmp_path / "programmed").unlink()
    make_tools(monkeypatch, tmp_path, NEXTPNR_ECP5=f"echo '{pnr_report(79)}' > pnr.json; touch top.tim; "
                                                   f"cp {shlex.quote(str(tmp_path))}/routed top.config")
    assert build(tmp_path, "--program", "--seed", "8") == 2
    assert "reaches 79 MHz only" in capsys.readouterr().err and not (tmp_path / "programmed").exists()
    monkeypatch.delenv("OPENFPGALOADER")
    monkeypatch.setattr("shutil.which", lambda tool, path: None)
    assert build(tmp_path, "--program") == 2
    assert "openFPGALoader must be installed; see the package manager" in capsys.readouterr().err


def test_a_clock_that_the_board_can_not_make_is_refused(tmp_path, monkeypatch, capsys):
    text = (CONSTRAINTS / "ulx3s-85f.toml").read_text()
    (tmp_path / "odd.toml").write_text(re.sub(r"^clock_mhz = .*", "clock_mhz = 81.3", text, flags=re.MULTILINE))
    monkeypatch.setattr("rtl.integration.boards.CONSTRAINTS", tmp_path)
    make_tools(monkeypatch, tmp_path, YOSYS="true", NEXTPNR_ECP5="true", ECPPACK="true")
    assert run_command(main, ["--board", "odd", "-o", str(tmp_path / "out")]) == 2
    assert "the board's clock must be a frequency that a PLL makes from 25 MHz, not 81.3 MHz" in capsys.readouterr().err
