# SPDX-License-Identifier: Apache-2.0
"""The Verilog that is exported: two simulators and two versions of the language give the same, and what golden gives.

Icarus is no package of Python, and .ci/prepare installs it: where it is missing its tests say so.
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.device.device import Device
from host.device.serial_port import find_packet
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from nonzero.errors import run_command
from rtl.build.__main__ import main
from rtl.protocol import COUNTERS, PROTOCOL_VERSION, Opcode, Status
from rtl.protocol import pack as packet
from sim.simulator.verilate import build_verilog
from tests.support.networks import SMALL, random_acts, random_network

SIMULATORS = [("icarus", "2005"), ("icarus", "2012"), ("verilator", "1364-2005"), ("verilator", "1800-2012")]

BENCH = """
module bench(input clk, input rst);
  // A byte to send, whether it is the last of its packet, and whether there is none left.
  reg [9:0] requests [0:8191];
  reg [12:0] place = 0;
  reg [31:0] cycle = 0;
  reg answered = 0;
  wire busy, tx_valid, rx_ready;
  wire [7:0] tx;
  wire send = ~answered & ~rst & ~requests[place][9];
  nonzero_engine engine(.clk(clk), .rst(rst), .rx__payload(requests[place][7:0]), .rx__valid(send),
                        .rx__ready(rx_ready), .tx__payload(tx), .tx__valid(tx_valid), .tx__ready(1'b1), .busy(busy),
                        .running());
  initial $readmemh("requests.hex", requests);
  always @(posedge clk) begin
    cycle <= cycle + 1;
    if (tx_valid) $write("%02x", tx);
    if (send & rx_ready) begin
      place <= place + 1;
      answered <= requests[place][8];
    end else if (answered & ~busy) begin
      answered <= 0;
      if (requests[place][9]) begin
        $display(" after %0d cycles", cycle);
        $finish;
      end
    end
    if (cycle == 200000) begin
      $display(" timed out");
      $finish;
    end
  end
endmodule
"""

CLOCK = """
module clocked;
  reg clk = 0, rst = 1;
  always #5 clk = ~clk;
  initial #42 rst = 0;
  bench bench(.clk(clk), .rst(rst));
endmodule
"""

MAIN = """
#include "Vtop.h"
#include "verilated.h"
int main(int argc, char** argv) {
    VerilatedContext context;
    Vtop top{&context};
    for (int cycle = 0; !context.gotFinish(); ++cycle) {
        top.rst = cycle < 4;
        for (int clk : {0, 1}) {
            top.clk = clk;
            top.eval();
        }
    }
    top.final();
}
"""


class Script:
    """A port that keeps the requests; its answers are given, or any that the driver goes on after."""

    def __init__(self, answers=()):
        self.requests = []
        self.answers = list(answers)

    def exchange(self, requests):
        self.requests += requests
        return [self.answers.pop(0) if self.answers else self._answer(one) for one in requests]

    def abort(self):
        raise NotImplementedError

    def _answer(self, request):
        identity = (bytes([PROTOCOL_VERSION, 1]) + SMALL.packet_bytes.to_bytes(2, "little")
                    + SMALL.pes.to_bytes(2, "little") + SMALL.hash)
        bodies = {Opcode.IDENTIFY.value: identity, Opcode.WAIT.value: bytes(4 * len(COUNTERS)),
                  Opcode.READ.value: bytes(int.from_bytes(request[6:8], "little") * SMALL.pes * SMALL.act_bytes)}
        return packet(request[1], bytes([Status.OK.value]) + bodies.get(request[1], b""))


NETWORK = random_network(np.random.default_rng(5), SMALL, [40, 24, 9], 0.2)
IMAGE = parse_image(image_file(pack(NETWORK, SMALL)), SMALL)
ACTS = random_acts(np.random.default_rng(6), NETWORK, 2, 0.4)


def drive(port):
    """Loads the image, runs it and reads its outputs."""
    device = Device(port, SMALL)
    device.load(IMAGE)
    return list(device.inferences(ACTS))


@cache
def exported():
    """The engine as a user gets it, and the bench around it."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        values = {name: list(value) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool)
                  else value for name, value in asdict(SMALL).items()}
        (place / "engine.toml").write_text("".join(f"{name} = {value}\n" for name, value in values.items()))
        assert run_command(main, ["--verilog", "--config", str(place / "engine.toml"), "-o", str(place / "e.v")]) == 0
        return (place / "e.v").read_text() + BENCH


def simulate(simulator, version, place):
    """Expected output of the bench: all responses, and the cycles that they took."""
    port = Script()
    drive(port)
    words = [byte | (number == len(request) - 1) << 8 for request in port.requests
             for number, byte in enumerate(request)]
    (place / "requests.hex").write_text("".join(f"{word:03x}\n" for word in words + [1 << 9] * (8192 - len(words))))
    if simulator == "icarus":
        (place / "design.v").write_text(exported() + CLOCK)
        subprocess.run(["iverilog", f"-g{version}", "-s", "clocked", "-o", "design.vvp", "design.v"], cwd=place,
                       check=True)
        command = ["vvp", "-n", "design.vvp"]
    else:
        (place / "main.cpp").write_text(MAIN)
        build = build_verilog(exported(), top="bench", main=place / "main.cpp", language=version)
        command = [str(build.executable)]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=True).stdout


@cache
def reference():
    """Output of the first simulator, which every machine has."""
    with tempfile.TemporaryDirectory() as place:
        return simulate("verilator", "1364-2005", Path(place))


@pytest.mark.parametrize(("simulator", "version"), SIMULATORS)
def test_every_simulator_and_version_of_the_language_gives_the_same(simulator, version, tmp_path):
    if simulator == "icarus" and shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog (apt install iverilog) is not on this machine: it did not simulate the Verilog")
    printed = simulate(simulator, version, tmp_path)
    assert re.match(r"[0-9a-f]{200,} after \d+ cycles\n", printed), printed[-200:]
    assert printed.splitlines()[0] == reference().splitlines()[0]


def test_it_is_what_golden_and_the_cycle_model_give():
    received, answers = bytearray.fromhex(reference().split()[0]), []
    while received:
        answers.append(find_packet(received))
    inferences = drive(Script(answers))
    golden = forward(NETWORK, ACTS)
    predicted = predict(decode(IMAGE, SMALL), ACTS, golden).counters
    assert golden[-1].any()
    assert [one.layers[-1].tolist() for one in inferences] == (golden[-1] & 0xFF).tolist()
    assert [one.counters for one in inferences] == [{name: int(values[number]) for name, values in predicted.items()}
                                                    for number in range(len(ACTS))]


def test_yosys_dummies_have_a_plain_name():
    assert "dump_module" not in exported()
    assert exported().count("initial \\$start <= 0;") > 10
