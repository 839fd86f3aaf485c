# SPDX-License-Identifier: Apache-2.0
"""The scanner in RTL: words of one block and of several, both sizes of blocks and of activations."""

from dataclasses import asdict

import pytest

from rtl.config import EngineConfig
from rtl.engine.scanner import Scanner
from sim.simulator.running import run
from sim.simulator.verilate import build


@pytest.mark.parametrize("config", [
    EngineConfig(act_depth=50),
    EngineConfig(pes=4, slice_word_bits=16, act_bits=16),
    EngineConfig(pes=4, slice_word_bits=8),
    EngineConfig(pes=32, slice_word_bits=16, act_depth=50),
    EngineConfig(pes=64, slice_word_bits=16, act_depth=50),
], ids=["two blocks", "one block", "two columns", "two groups", "four groups"])
def test_every_activation_leaves_once(config):
    assert run(build(Scanner(config)), "sim.testbenches.scanner", parameters=asdict(config)) \
        == ["every_activation_leaves_once"]
