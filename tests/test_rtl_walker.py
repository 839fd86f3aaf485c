# SPDX-License-Identifier: Apache-2.0
"""The walker in RTL with every index width; its proof is in test_formal_walker.py."""

from dataclasses import asdict

import pytest

from rtl.config import EngineConfig
from rtl.walker import Walker
from sim.running import run
from sim.verilate import build


@pytest.mark.parametrize("config", [
    EngineConfig(),
    EngineConfig(index_bits=(2, 3, 5), entries_per_word=2, code_bits=5, acc_depth=200, act_bits=16),
    EngineConfig(index_bits=(4,), entries_per_word=8, code_bits=8, weight_bits=8, direct_weights=True, acc_depth=64),
], ids=["four entries", "two entries", "eight entries"])
def test_useful_entries_are_visited(config):
    assert run(build(Walker(config)), "sim.benches.walker", parameters=asdict(config)) \
        == ["useful_entries_are_visited"]
