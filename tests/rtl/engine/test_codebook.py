# SPDX-License-Identifier: Apache-2.0
"""The codebook in RTL, with a memory and with direct weights."""

from dataclasses import asdict

import pytest

from rtl.config import EngineConfig
from rtl.engine.codebook import Codebook
from sim.simulator.running import run
from sim.simulator.verilate import build


@pytest.mark.parametrize("config", [
    EngineConfig(),
    EngineConfig(code_bits=6, weight_bits=16),
    EngineConfig(code_bits=5, weight_bits=5, direct_weights=True),
], ids=["default", "wide weights", "direct weights"])
def test_codes_become_weights(config):
    assert run(build(Codebook(config)), "sim.testbenches.codebook", parameters=asdict(config)) \
        == ["codes_become_weights"]
