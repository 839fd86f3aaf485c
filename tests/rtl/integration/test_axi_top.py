# SPDX-License-Identifier: Apache-2.0
"""The engine behind AXI4-Stream and AXI4-Lite."""

from dataclasses import asdict

import numpy as np
import pytest

from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from rtl.integration.axi_top import AxiEngine
from sim.simulator.running import run
from sim.simulator.verilate import build
from tests.support.networks import SMALL, random_acts, random_network


@pytest.mark.parametrize("idle, stall", [(0.0, 0.5), (0.3, 0.3)])
def test_packets_and_registers(idle, stall):
    parameters = {"config": asdict(SMALL), "packets": 60, "idle": idle, "stall": stall}
    assert run(build(AxiEngine(SMALL)), "sim.testbenches.axi", tests=["packets_and_registers"], parameters=parameters) \
        == ["packets_and_registers"]


def test_a_whole_inference_equals_golden():
    network = random_network(np.random.default_rng(5), SMALL, [40, 20, 8], 0.2)
    acts = random_acts(np.random.default_rng(6), network, 2, 0.5)
    parameters = {"config": asdict(SMALL), "image": image_file(pack(network, SMALL)).hex(), "acts": acts.tolist(),
                  "outputs": (forward(network, acts)[-1] & 0xFF).tolist(), "idle": 0.1, "stall": 0.1}
    assert run(build(AxiEngine(SMALL)), "sim.testbenches.axi", tests=["an_inference"], parameters=parameters) \
        == ["an_inference"]
