# SPDX-License-Identifier: Apache-2.0
"""The walkers in RTL with every index width; the proof of one is in tests/formal/test_walker.py."""

from dataclasses import asdict

import pytest

from rtl.config import EngineConfig
from rtl.engine.scatter import ScatterWalker
from rtl.engine.walker import Walker
from sim.simulator.running import run
from sim.simulator.verilate import build


@pytest.mark.parametrize("config", [
    EngineConfig(),
    EngineConfig(index_bits=(2, 3, 5), entries_per_word=2, code_bits=5, acc_depth=200, act_bits=16),
    EngineConfig(index_bits=(4,), entries_per_word=8, code_bits=8, weight_bits=8, direct_weights=True, acc_depth=64),
    EngineConfig(index_bits=(2, 4), single_port=True, acc_depth=100),
    EngineConfig(tap_bits=2),
    EngineConfig(tap_bits=3, index_bits=(4, 6, 8), entries_per_word=2, acc_depth=300),
    EngineConfig(tap_bits=2, single_port=True),
], ids=["four entries", "two entries", "eight entries", "few registers", "4x4 taps", "8x8 taps",
        "4x4 taps, few registers"])
def test_useful_entries_are_visited(config):
    walker = ScatterWalker if config.tap_bits else Walker
    assert run(build(walker(config)), "sim.testbenches.walker", parameters=asdict(config)) \
        == ["useful_entries_are_visited"]
