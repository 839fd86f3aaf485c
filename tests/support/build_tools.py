# SPDX-License-Identifier: Apache-2.0
"""Builds of a small engine for a board. Shell scripts stand in for the tools that synthesise, place and route."""

import json
import shlex

import numpy as np

from host.image.image import read_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from nonzero.errors import run_command
from rtl.build.__main__ import main
from rtl.build.bitstream import placeholder
from rtl.config_file import read_config
from rtl.integration.boards import read_board
from rtl.protocol import load_packets
from tests.support.networks import random_network

SMALL = 'preset = "tiny"\nentry_depth = 64\nslice_depth = 64\nact_depth = 64\nacc_depth = 16\n'
"""The fields of the engine."""

CLOCK = read_board("ulx3s-85f")["clock_mhz"]
"""Of the board, MHz."""

EMPTY = "echo '{\"modules\": {\"top\": {\"cells\": {}, \"ports\": {}}}}'"
"""Prints a netlist."""


def make_tools(monkeypatch, directory, **scripts):
    """Stands shell scripts in for the tools; each gets the arguments that the real one would."""
    for variable, script in scripts.items():
        tool = directory / variable.lower()
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv(variable, str(tool))


def pnr_report(fmax):
    """The report of placement and routing, as JSON, of a design that reaches ``fmax`` MHz."""
    return json.dumps({"fmax": {"engine_clock": {"achieved": fmax}},
                       "utilization": {name: {"used": 40} for name in
                                       ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D")}})


def build(tmp_path, *more):
    """Builds the small engine for the ULX3S into the folder ``out``; returns the command's exit status."""
    (tmp_path / "small.toml").write_text(SMALL)
    return run_command(main, ["--board", "ulx3s-85f", "--config", str(tmp_path / "small.toml"), "--seed", "7",
                              "-o", str(tmp_path / "out"), *more])


def stand_ins(monkeypatch, tmp_path):
    """Tools that leave behind what they were called for; a patch gives the routed design the new contents."""
    (tmp_path / "routed").write_text(".bram_init 3\n" + placeholder(24 * 1024).hex("\n") + "\n")
    place = shlex.quote(str(tmp_path))
    make_tools(
        monkeypatch, tmp_path, YOSYS=f"{EMPTY} > top.json; touch top.rpt; echo YOSYS >> {place}/calls",
        NEXTPNR_ECP5=f"echo '{pnr_report(CLOCK)}' > pnr.json; cp {place}/routed top.config; touch top.tim; "
                     f"echo NEXTPNR >> {place}/calls",
        ECPBRAM='[ "$*" = "-i top.config -o patched-top.config -f old.hex -t new.hex" ] || exit 1\n'
                f"cp old.hex {place}/old.hex; (head -n 1 top.config; cat new.hex) > patched-top.config",
        ECPPACK="cp top.config top.bit", OPENFPGALOADER=f"echo \"$@\" > {place}/programmed")


def baked(out):
    """The boot memory of a bitstream of the stand-in tools."""
    routed, *content = (out / "top.bit").read_text().splitlines()
    assert routed == ".bram_init 3"
    return bytes(int(byte, 16) for byte in content)


def image(tmp_path, inputs):
    """An image of the small engine: its path, and the packets that load it."""
    config = read_config(tmp_path / "small.toml")
    network = random_network(np.random.default_rng(inputs), config, [inputs, 8], 0.3)
    path = tmp_path / f"model{inputs}.img"
    path.write_bytes(image_file(pack(network, config)))
    return path, b"".join(load_packets(read_image(path, config).engine, config.packet_bytes))
