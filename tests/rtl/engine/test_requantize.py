# SPDX-License-Identifier: Apache-2.0
"""The requantiser in RTL equals the numbers contract."""

import pytest

from rtl.config import EngineConfig
from rtl.engine.requantize import Requantizer
from sim.simulator.running import run
from sim.simulator.verilate import build


@pytest.mark.parametrize("act_bits, pes, latency_cycles", [(8, 16, 3), (16, 16, 3), (8, 32, 4)])
def test_activations_follow_the_contract(act_bits, pes, latency_cycles):
    component = Requantizer(EngineConfig(act_bits=act_bits, pes=pes))
    assert component.latency_cycles(component.config) == latency_cycles
    assert run(build(component), "sim.testbenches.requantize", parameters={"act_bits": act_bits}) \
        == ["activations_follow_the_contract"]
